"""What people see of the processes: logs."""
