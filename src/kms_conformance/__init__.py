"""The contract-test harness for any KMS v2 socket; filled by its own issue."""
