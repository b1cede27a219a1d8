//! What hosts of AWS's say.

use super::*;
use crate::target::Host;

fn of(host: &str) -> Option<String> {
    Scope::of_host(&Host::parse(host).unwrap()).map(|scope| format!("{} {}", scope.region, scope.service))
}

#[test]
fn a_host_of_aws_tells_region_and_service() {
    for (host, expected) in [
        // The plain form, and its variants.
        ("dynamodb.eu-west-2.amazonaws.com", "eu-west-2 dynamodb"),
        ("DynamoDB.eu-west-2.amazonaws.com.", "eu-west-2 dynamodb"),
        ("kms-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1 kms"),
        ("fips.batch.us-east-1.amazonaws.com", "us-east-1 batch"),
        ("lambda.eu-west-2.api.aws", "eu-west-2 lambda"),
        ("ec2.cn-north-1.amazonaws.com.cn", "cn-north-1 ec2"),
        ("ec2.cn-north-1.api.amazonwebservices.com.cn", "cn-north-1 ec2"),
        ("sqs.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1 sqs"),
        ("kms.mx-central-1.amazonaws.com", "mx-central-1 kms"),
        ("kms.us-isob-east-1.amazonaws.com", "us-isob-east-1 kms"),
        // S3.
        ("s3.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("bucket.s3.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("my.us-west-2.bucket.s3.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("bucket.s3.dualstack.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("bucket.s3-fips.dualstack.us-east-1.amazonaws.com", "us-east-1 s3"),
        ("bucket.s3-eu-west-1.amazonaws.com", "eu-west-1 s3"),
        ("s3-fips-us-gov-west-1.amazonaws.com", "us-gov-west-1 s3"),
        ("s3-external-1.amazonaws.com", "us-east-1 s3"),
        ("s3.amazonaws.com", "us-east-1 s3"),
        ("us-west-2.s3.amazonaws.com", "us-east-1 s3"),
        ("bucket.s3.amazonaws.com", "us-east-1 s3"),
        ("123456789012.s3-control.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("point-123456789012.s3-accesspoint.eu-west-2.amazonaws.com", "eu-west-2 s3"),
        ("point-1.s3-object-lambda.eu-west-2.amazonaws.com", "eu-west-2 s3-object-lambda"),
        ("point-1.op-01.s3-outposts.eu-west-2.amazonaws.com", "eu-west-2 s3-outposts"),
        ("bucket--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com", "us-east-1 s3express"),
        ("s3express-control.us-east-1.amazonaws.com", "us-east-1 s3express"),
        ("s3tables.us-east-1.amazonaws.com", "us-east-1 s3tables"),
        // Through a VPC endpoint.
        ("vpce-0a-1b.s3.us-east-1.vpce.amazonaws.com", "us-east-1 s3"),
        ("sqs.bucket.vpce-0a-1b-us-east-1a.s3.us-east-1.vpce.amazonaws.com", "us-east-1 s3"),
        ("vpce-0a-1b.bedrock-runtime.us-east-1.vpce.amazonaws.com", "us-east-1 bedrock"),
        // Without a region.
        ("iam.amazonaws.com", "us-east-1 iam"),
        ("iam.us-gov.amazonaws.com", "us-gov-west-1 iam"),
        ("iam.global.api.aws", "us-east-1 iam"),
        ("iam-fips.global.api.aws", "us-east-1 iam"),
        ("iam.global.api.amazonwebservices.com.cn", "cn-north-1 iam"),
        ("sts.amazonaws.com", "us-east-1 sts"),
        ("sts.eu-west-2.amazonaws.com", "eu-west-2 sts"),
        ("route53.amazonaws.com", "us-east-1 route53"),
        ("route53.amazonaws.com.cn", "cn-northwest-1 route53"),
        ("cloudfront.amazonaws.com", "us-east-1 cloudfront"),
        ("global.health.amazonaws.com", "us-east-1 health"),
        ("queue.amazonaws.com", "us-east-1 sqs"),
        ("routes.geo.us-gov-west-1.us-gov.amazonaws.com", "us-gov-west-1 geo-routes"),
        // Signed under another name.
        ("email.us-east-1.amazonaws.com", "us-east-1 ses"),
        ("bedrock-runtime.us-west-2.amazonaws.com", "us-west-2 bedrock"),
        ("bedrock-runtime-fips.us-west-2.amazonaws.com", "us-west-2 bedrock"),
        ("bedrock-agent-runtime.us-west-2.amazonaws.com", "us-west-2 bedrock"),
        ("bedrock-agentcore.us-west-2.amazonaws.com", "us-west-2 bedrock-agentcore"),
        ("runtime.sagemaker.us-east-1.amazonaws.com", "us-east-1 sagemaker"),
        ("api.sagemaker.us-east-1.amazonaws.com", "us-east-1 sagemaker"),
        ("abc123.execute-api.us-east-1.amazonaws.com", "us-east-1 execute-api"),
        ("abc123-vpce-0a.execute-api.us-east-1.amazonaws.com", "us-east-1 execute-api"),
        ("abc.appsync-api.us-east-1.amazonaws.com", "us-east-1 appsync"),
        ("abc.lambda-url.us-east-1.on.aws", "us-east-1 lambda"),
        ("x.123.vpc-lattice-svcs.us-east-1.on.aws", "us-east-1 vpc-lattice-svcs"),
        ("iot.us-east-1.amazonaws.com", "us-east-1 iot"),
        ("a1b2-ats.iot.us-east-1.amazonaws.com", "us-east-1 iotdata"),
        ("data-ats.iot.us-east-1.amazonaws.com", "us-east-1 iotdata"),
        ("data.jobs.iot.us-east-1.amazonaws.com", "us-east-1 iot-jobs-data"),
        ("search-x-abc.us-east-1.es.amazonaws.com", "us-east-1 es"),
        ("abc.us-east-1.aoss.amazonaws.com", "us-east-1 aoss"),
        ("eu-west-2.queue.amazonaws.com", "eu-west-2 sqs"),
        ("metering.marketplace.us-east-1.amazonaws.com", "us-east-1 aws-marketplace"),
        ("workflows-omics.us-east-1.amazonaws.com", "us-east-1 omics"),
        ("api.ecr.us-east-1.amazonaws.com", "us-east-1 ecr"),
        ("streams.dynamodb.us-east-1.amazonaws.com", "us-east-1 dynamodb"),
        ("123456789012.ddb.us-east-1.amazonaws.com", "us-east-1 dynamodb"),
        ("sms-voice.pinpoint.us-east-1.amazonaws.com", "us-east-1 sms-voice"),
        ("pinpoint.us-east-1.amazonaws.com", "us-east-1 mobiletargeting"),
        ("rds.us-east-1.amazonaws.com", "us-east-1 rds"),
    ] {
        assert_eq!(of(host).as_deref(), Some(expected), "{host}");
    }
}

#[test]
fn a_host_that_does_not_tell_has_no_scope() {
    for host in [
        "example.com",
        "amazonaws.com",
        "s3.us-east-1.amazonaws.com.evil.test",
        "evilamazonaws.com",
        "s3.us-east-1.evilamazonaws.com",
        "s3.us-east-1.digitaloceanspaces.com",
        "10.0.0.5",
        "us-east-1.amazonaws.com",
        "vpce.amazonaws.com",
        "s3.us-east-1.vpce.amazonaws.com",
        "global.api.aws",
        // Customers' own machines.
        "name-1.us-east-1.elb.amazonaws.com",
        "ec2-1-2-3-4.us-west-2.compute.amazonaws.com",
        "abc.gr7.us-east-1.eks.amazonaws.com",
        "db.abc.us-east-1.rds.amazonaws.com",
        "x.us-east-1.on.aws",
        "something.amazonaws.com",
        "data-pipeline-1.amazonaws.com",
        // Public, by token, or of a region that is not told.
        "bucket.s3-website.us-east-1.amazonaws.com",
        "bucket.s3-website-us-east-1.amazonaws.com",
        "bucket.s3-accelerate.amazonaws.com",
        "bucket.s3-accelerate.dualstack.amazonaws.com",
        "point.accesspoint.s3-global.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "abc.credentials.iot.us-east-1.amazonaws.com",
        "git-codecommit.us-east-1.amazonaws.com",
    ] {
        assert_eq!(of(host), None, "{host}");
    }
}
