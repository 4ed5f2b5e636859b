// How many Decrypts a second a KMS v2 socket serves to Kubernetes' own generated client.
//
//	go run . SOCKET IN_FLIGHT SECONDS
//
// prints one JSON object. It encrypts once and has that decrypted over and over.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kms "k8s.io/kms/apis/v2"
)

type figures struct {
	InFlight          int     `json:"in_flight"`
	DecryptsPerSecond float64 `json:"decrypts_per_s"`
	P50               float64 `json:"p50_ms"`
	P99               float64 `json:"p99_ms"`
}

func main() {
	if len(os.Args) != 4 {
		fail(fmt.Errorf("usage: go run . SOCKET IN_FLIGHT SECONDS"))
	}
	inFlight, err := strconv.Atoi(os.Args[2])
	fail(err)
	seconds, err := strconv.ParseFloat(os.Args[3], 64)
	fail(err)
	// As kube-apiserver dials (k8s.io/apiserver, kmsv2 grpc_service.go).
	connection, err := grpc.NewClient("unix://"+os.Args[1],
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority("localhost"))
	fail(err)
	result, err := measure(kms.NewKeyManagementServiceClient(connection), inFlight, seconds)
	fail(err)
	fail(json.NewEncoder(os.Stdout).Encode(result))
}

func measure(client kms.KeyManagementServiceClient, inFlight int, seconds float64) (figures, error) {
	ctx := context.Background()
	uid := "9f4e2b6c-6d5b-4d7e-9a43-0a6de2f4b7b1"
	sealed, err := client.Encrypt(ctx, &kms.EncryptRequest{Plaintext: make([]byte, 32), Uid: uid})
	if err != nil {
		return figures{}, err
	}
	request := &kms.DecryptRequest{Ciphertext: sealed.Ciphertext, KeyId: sealed.KeyId, Uid: uid}
	took := make([][]float64, inFlight)
	errors := make([]error, inFlight)
	began := time.Now()
	end := began.Add(time.Duration(seconds * float64(time.Second)))
	var all sync.WaitGroup
	for i := range inFlight {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) && errors[i] == nil {
				called := time.Now()
				_, errors[i] = client.Decrypt(ctx, request)
				took[i] = append(took[i], time.Since(called).Seconds()*1000)
			}
		}()
	}
	all.Wait()
	passed := time.Since(began).Seconds()
	for _, err := range errors {
		if err != nil {
			return figures{}, err
		}
	}
	times := slices.Concat(took...)
	slices.Sort(times)
	return figures{
		InFlight:          inFlight,
		DecryptsPerSecond: float64(len(times)) / passed,
		P50:               times[len(times)/2],
		P99:               times[len(times)*99/100],
	}, nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
