"""What becomes of jobs and endpoints by themselves, where a test does not move them on."""


def completes(job):
    """Have a job print a line on each host and complete."""
    hosts = job.request["ResourceConfig"].get("InstanceCount", 1)
    job.to("Downloading", "Downloading input data")
    job.to("Training", "Training image download completed. Training in progress.")
    for rank in range(hosts):
        job.log(f"hello from algo-{rank + 1}", host=f"algo-{rank + 1}", at=1_700_000_000 + rank)
    job.to("Uploading", "Uploading generated training model")
    job.complete()


def fails(job):
    """Have a job fail as AWS's training toolkit does."""
    job.to("Training")
    job.log("about to fail", "ValueError: the loss is NaN")
    job.fail(
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "ValueError: the loss is NaN"'
    )


def stops_when_told(job):
    """Have a job train until it is told to stop."""
    job.to("Training")
    job.log("waiting")
    if job.stop_asked.wait(30):
        job.stopped()


def comes_into_service(endpoint):
    """Bring an endpoint into service."""
    endpoint.log("the model is loaded")
    endpoint.to("InService")


def does_not_answer(endpoint):
    """Have an endpoint fail as one whose model does not load."""
    endpoint.to("Failed", "The primary container for production variant AllTraffic did not pass the ping.")
