from tests.aws.services import aws, bucket, config_file, moto, proxy, s3, surroundings

__all__ = ["aws", "bucket", "config_file", "moto", "proxy", "s3", "surroundings"]
