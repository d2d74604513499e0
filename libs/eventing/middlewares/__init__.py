"""What happens around every handler of a lifecycle event: retry, lease, CloudEvents."""
