//! What the names of AWS's hosts say: the region, and the name of the service in signatures.
//!
//! The shapes and the table follow the endpoint rules that AWS's SDKs ship (as of botocore 1.44.8). Some hosts are
//! signed for in two ways, of which this knows one: `budgets.…` and `cloudfront.amazonaws.com`, also by the US
//! government's regions; `maps.geo`, `places.geo` and `routes.geo`, by two interfaces.

/// Region and service of a host, in lower case.
pub(super) fn find(host: &str) -> Option<(&str, &str)> {
    let (inside, partition) = PARTITIONS
        .iter()
        .find_map(|(suffix, partition)| Some((host.strip_suffix(suffix)?.strip_suffix('.')?, partition)))?;
    let mut labels: Vec<&str> = inside.split('.').filter(|label| !VARIANTS.contains(label)).collect();
    if *partition == "on.aws" {
        // Functions and services of customers', by URL: nothing else there is signed for.
        let region = labels.pop().filter(|label| is_region(label))?;
        let service = named(&labels)?;
        return matches!(service, "lambda" | "vpc-lattice-svcs").then_some((region, service));
    }
    if labels.last() == Some(&"vpce") {
        labels.pop();
        // `[BUCKET.]vpce-ID.SERVICE.REGION.vpce`
        let id = labels.iter().rposition(|label| label.starts_with("vpce-"))?;
        labels.drain(..=id);
    }
    let region = take_region(&mut labels, partition);
    let service = named(&labels)?;
    let region = region.or_else(|| {
        let china = service == "iam" && *partition == "cn-northwest-1";
        GLOBAL.contains(&service).then_some(if china { "cn-north-1" } else { *partition })
    })?;
    Some((region, service))
}

/// Takes the region out of the labels, wherever it stands.
fn take_region<'a>(labels: &mut Vec<&'a str>, global: &'a str) -> Option<&'a str> {
    let last = *labels.last()?;
    if is_region(last) {
        return labels.pop();
    }
    if last == "us-gov" {
        labels.pop();
        return labels.pop_if(|label| is_region(label)).or(Some("us-gov-west-1"));
    }
    if last == "global" {
        labels.pop();
        // China's identities live in Beijing, all else of hers that is global in Ningxia.
        let china = global == "cn-northwest-1" && labels.last().is_some_and(|label| label.starts_with("iam"));
        return Some(if china { "cn-north-1" } else { global });
    }
    // The old form: `s3-eu-west-1`, `s3-fips-us-gov-west-1`.
    if let Some(rest) = last.strip_prefix("s3-") {
        let region = rest.strip_prefix("fips-").unwrap_or(rest);
        let region = if region == "external-1" { "us-east-1" } else { region };
        if is_region(region) {
            labels.pop();
            labels.push("s3");
            return Some(region);
        }
    }
    // The other old form: `NAME.eu-west-1.es`.
    let before = labels.len().checked_sub(2)?;
    let is_reversed = REVERSED.contains(&last) && labels.get(before).is_some_and(|label| is_region(label));
    is_reversed.then(|| labels.remove(before))
}

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`: two or more words and a number.
fn is_region(label: &str) -> bool {
    let mut parts = label.rsplit('-');
    let number = parts.next().unwrap_or_default();
    let words: Vec<&str> = parts.collect();
    (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (2..=3).contains(&words.len())
        && words.last().is_some_and(|area| (2..=4).contains(&area.len()))
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        // A table of every region would be out of date. The compass keeps `data-pipeline-1` out.
        && words.first().is_some_and(|side| COMPASS.contains(side))
}

/// The name in signatures of the service that these labels end with.
fn named<'a>(labels: &[&'a str]) -> Option<&'a str> {
    let labels: Vec<&str> = labels.iter().map(|label| label.strip_suffix("-fips").unwrap_or(label)).collect();
    let last = *labels.last()?;
    for depth in (1..=labels.len().min(3)).rev() {
        let end = labels.get(labels.len() - depth..)?.join(".");
        if UNSIGNED.contains(&end.as_str()) {
            return None;
        }
        if let Some((_, name)) = NAMES.iter().find(|(prefix, _)| *prefix == end) {
            return Some(name);
        }
    }
    if let Some((_, name)) = FAMILIES.iter().find(|(ending, _)| last.ends_with(ending)) {
        return Some(name);
    }
    if last.starts_with("s3express-") {
        return Some("s3express");
    }
    // `iot` is where things are named, `ID.iot` and `ID-ats.iot` is where they speak.
    if last == "iot" && labels.len() > 1 {
        return Some("iotdata");
    }
    Some(last)
}

/// Where AWS's hosts end, and in which region that part of AWS signs for what is not in any. The longer first.
const PARTITIONS: &[(&str, &str)] = &[
    ("amazonaws.com.cn", "cn-northwest-1"),
    ("api.amazonwebservices.com.cn", "cn-northwest-1"),
    ("api.amazonwebservices.eu", "eusc-de-east-1"),
    ("amazonaws.eu", "eusc-de-east-1"),
    ("amazonaws.com", "us-east-1"),
    ("api.aws", "us-east-1"),
    ("on.aws", "on.aws"),
];

/// Labels that say how a service is reached, and not which.
const VARIANTS: [&str; 2] = ["dualstack", "fips"];

/// How names of regions end.
#[rustfmt::skip]
const COMPASS: [&str; 9] = ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];

/// Whose hosts may stand without a region. Others that do, such as load balancers, are not AWS's own.
#[rustfmt::skip]
const GLOBAL: &[&str] = &[
    "iam", "sts", "s3", "route53", "route53domains", "cloudfront", "organizations", "budgets", "ce", "savingsplans",
    "waf", "shield", "support", "health", "globalaccelerator", "mturk-requester", "chime", "sdb",
    "ec2", "autoscaling", "elasticmapreduce", "elasticloadbalancing", "sqs",
];

/// Who puts the region before its name.
const REVERSED: [&str; 5] = ["es", "aoss", "queue", "neptune", "elasticmapreduce"];

/// What takes no signature in a header: tokens of other kinds, public websites, and buckets whose region is not told.
#[rustfmt::skip]
const UNSIGNED: &[&str] = &[
    "dkr.ecr", "d.codeartifact", "git-codecommit", "credentials.iot", "s3-website", "s3-accelerate", "s3-global",
];

/// Endings of last labels.
const FAMILIES: [(&str, &str); 3] =
    [("-omics", "omics"), ("-marketplace", "aws-marketplace"), ("-chime", "chime")];

/// What a host calls itself where signatures call it otherwise. Where the last label is the name, as in
/// `runtime.sagemaker`, nothing need stand here.
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    // Storage and tables.
    ("s3-control", "s3"), ("s3-accesspoint", "s3"), ("s3express-control", "s3express"),
    ("streams-dynamodb", "dynamodb"), ("ddb", "dynamodb"), ("cassandra-streams", "cassandra"), ("efs", "elasticfilesystem"),
    ("memory-db", "memorydb"), ("neptune", "neptune-db"), ("timestream-ingest", "timestream"), ("timestream-query", "timestream"),
    ("data-lakeformation", "lakeformation"), ("query-lakeformation", "lakeformation"),
    // Search.
    ("aos", "es"), ("cloudsearchdomain", "cloudsearch"),
    // Messages and streams.
    ("email", "ses"), ("mail-manager", "ses"), ("queue", "sqs"), ("pinpoint", "mobiletargeting"),
    ("sms-voice.pinpoint", "sms-voice"), ("eventsv2", "events"), ("sync-states", "states"), ("kafka-api", "kafka"),
    ("control-kinesis", "kinesis"), ("data-kinesis", "kinesis"), ("contact-lens", "connect"), ("participant.connect", "execute-api"),
    ("appsync-api", "appsync"), ("lambda-url", "lambda"), ("ivsrealtime", "ivs"),
    // Models.
    ("bedrock-runtime", "bedrock"), ("bedrock-agent", "bedrock"), ("bedrock-agent-runtime", "bedrock"),
    ("bedrock-data-automation", "bedrock"), ("bedrock-data-automation-runtime", "bedrock"),
    ("bedrock-agentcore-control", "bedrock-agentcore"), ("agent-registry-control", "agent-registry"),
    ("forecastquery", "forecast"), ("models-v2-lex", "lex"), ("runtime-v2-lex", "lex"),
    ("personalize-events", "personalize"), ("personalize-runtime", "personalize"), ("runtime-medical-imaging", "medical-imaging"),
    // Things and places.
    ("data-ats.iot", "iotdata"), ("data.jobs.iot", "iot-jobs-data"), ("jobs.iot", "iot-jobs-data"),
    ("tunneling.iot", "IoTSecuredTunneling"), ("iot-tunneling", "IoTSecuredTunneling"),
    ("cp.maps.geo", "geo"), ("cp.places.geo", "geo"), ("cp.routes.geo", "geo"),
    ("maps.geo", "geo-maps"), ("places.geo", "geo-places"), ("routes.geo", "geo-routes"),
    // Running the house.
    ("marketplace", "aws-marketplace"), ("partnercentral-prm", "partnercentral"),
    ("oidc", "sso-oauth"), ("portal.sso", "awsssoportal"), ("account-access-runtime", "account-access"), ("iam-toolbox", "iam"),
    ("appconfigdata", "appconfig"), ("appstream2", "appstream"), ("cloudhsmv2", "cloudhsm"),
    ("cloudwatch-omni", "cloudwatch"), ("stream-logs", "logs"), ("data-signer", "signer"),
    ("data-servicediscovery", "servicediscovery"), ("servicecatalog-appregistry", "servicecatalog"),
    ("migrationhub-config", "mgh"), ("arc-recovery-control-config", "route53-recovery-control-config"),
];
