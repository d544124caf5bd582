"""Where jobs and endpoints run."""
