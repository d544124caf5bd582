from tests.aws.services import aws, bucket, moto, s3, surroundings

__all__ = ["aws", "bucket", "moto", "s3", "surroundings"]
