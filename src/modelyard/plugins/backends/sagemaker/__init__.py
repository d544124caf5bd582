"""The backend `sagemaker`: training jobs and endpoints of AWS's service, by its own API."""
