"""Several processes: ranks that agree, parameters that lie in parts."""
