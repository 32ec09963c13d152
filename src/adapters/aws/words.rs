//! What AWS's refusals mean: when to come back, and what the operator can do. The texts are not passed on, since they may
//! quote the request; they are only looked for words that are known.

use crate::error::Class;

/// `lost` is the class of an answer that leaves open what happened.
pub fn classify(code: &str, text: &str, status: u16, lost: Class) -> Class {
    if code.contains("Throttl") || code.contains("TooManyRequests") || code == "RequestLimitExceeded" {
        return Class::Transient;
    }
    if let Some(class) = class_of_words(text) {
        return class;
    }
    match status {
        408 => lost,
        400..=499 => Class::NeedsOperator,
        // A success whose body the SDK cannot read comes as an error too: it may have happened.
        _ => lost,
    }
}

/// What the words alone say, whatever they come with.
pub fn class_of_words(text: &str) -> Option<Class> {
    if says_throttled(text) {
        return Some(Class::Transient);
    }
    // The second of capacity providers with instances, of which as many tasks wait as may ("RunTask", API reference).
    if text.contains("apacity is unavailable") || text.contains("provisioning capacity limit exceeded") {
        return Some(Class::NoCapacity);
    }
    is_over_quota(text).then_some(Class::OverQuota)
}

/// ECS says it as a ThrottlingException, as a ClientException, and, when it was EC2 that throttled it, inside an
/// InvalidParameterException: "Request limit exceeded. (Service: AmazonEC2; … Error Code: RequestLimitExceeded)".
fn says_throttled(text: &str) -> bool {
    ["Rate exceeded", "Request limit exceeded", "RequestLimitExceeded"]
        .iter()
        .any(|words| text.contains(words))
}

/// "You've reached the limit on the number of vCPUs you can run concurrently", or "… tasks …". Spot and on-demand have
/// quotas of their own.
fn is_over_quota(text: &str) -> bool {
    text.contains("limit on the number of")
}

/// What can be done about a quota.
pub const OVER_QUOTA: &str =
    "ask for a higher quota of Fargate vCPUs (Service Quotas), for Spot and on-demand each";

/// What RunTask's words mean. In lower case; the first that fits counts.
const REFUSALS: [(&str, &str); 21] = [
    ("limit on the number of", OVER_QUOTA),
    (
        "assume the service linked role",
        "aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com",
    ),
    ("unable to assume the role", "the task definition's roles must trust ecs-tasks.amazonaws.com"),
    ("unable to assume role", "the task definition's roles must trust ecs-tasks.amazonaws.com"),
    ("role is not valid", "the task definition names a role that is not there"),
    ("execution role", "the task definition needs an execution role"),
    ("override for container", "CONTAINER_NAME names a container that the task definition does not have"),
    (
        "no fargate configuration exists",
        "Fargate has no such size: check CPU and memory of the task definition",
    ),
    (
        "ephemeral storage",
        "Fargate's disks have 21 to 200 GiB: check the task definition and the job's labels",
    ),
    ("does not support launch_type", "TASK_DEFINITION must be made for Fargate (requiresCompatibilities)"),
    ("compatib", "TASK_DEFINITION must be made for Fargate (requiresCompatibilities)"),
    ("capacity provider", "the cluster must have the capacity providers of CAPACITY"),
    ("invalidsubnet", "SUBNET_IDS names a subnet that is not there"),
    ("subnet id", "SUBNET_IDS names a subnet that is not there"),
    ("invalidgroup", "SECURITY_GROUP_IDS names a group that is not there"),
    ("same vpc", "SUBNET_IDS and SECURITY_GROUP_IDS must be of one VPC"),
    ("security group", "check SECURITY_GROUP_IDS (are they of the subnets' VPC?)"),
    ("subnet", "check SUBNET_IDS (are all of one VPC?)"),
    ("inactive", "TASK_DEFINITION or ECS_CLUSTER is deregistered: name one that is active"),
    ("taskdefinition", "TASK_DEFINITION names one that is not registered"),
    ("task definition", "TASK_DEFINITION names one that is not registered"),
];

/// What the operator can do about it.
pub(super) fn fix(code: &str, text: &str, call: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let refused = || REFUSALS.iter().find(|(words, _)| lower.contains(words)).map(|(_, fix)| *fix);
    let fix = match code {
        "AccessDeniedException" | "AccessDenied" => return Some(denied(text, call)),
        // Secrets Manager: the key is disabled, or was deleted.
        "DecryptionFailure" | "KMSAccessDeniedException" => {
            return Some(denied("Access to KMS is not allowed", call));
        }
        "ClusterNotFoundException" => "ECS_CLUSTER names a cluster that is not there",
        "UnrecognizedClientException" | "InvalidClientTokenId" | "ExpiredTokenException" => {
            "the function's AWS credentials are not valid"
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            "the function's AWS credentials are not valid, or its clock is wrong"
        }
        "BlockedException" => "the AWS account is blocked; ask AWS Support",
        "OptInRequired" | "SubscriptionRequiredException" => {
            "the account is not signed up for this service, or not in this Region"
        }
        "PlatformUnknownException" | "PlatformTaskDefinitionIncompatibilityException" => {
            "TASK_DEFINITION does not run on Fargate's platform version"
        }
        "UnsupportedFeatureException" => "Fargate does not have this in this Region: check TASK_DEFINITION",
        "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" => {
            "JOB_QUEUE_URL or DEAD_LETTER_QUEUE_URL names a queue that is not there"
        }
        "ResourceNotFoundException" => "it is not there",
        "InvalidParameterException" | "ClientException" if call == "ecs:RunTask" => refused().unwrap_or(
            "ECS refuses the request; check TASK_DEFINITION, CONTAINER_NAME, SUBNET_IDS, SECURITY_GROUP_IDS, and that \
             the cluster has the capacity providers of CAPACITY",
        ),
        _ => return None,
    };
    Some(fix.to_owned())
}

/// "… is not authorized to perform: iam:PassRole on resource: … because no identity-based policy allows the iam:PassRole
/// action", or "… with an explicit deny in a service control policy".
fn denied(text: &str, call: &str) -> String {
    let action =
        text.split_once("authorized to perform: ").and_then(|(_, rest)| rest.split_whitespace().next());
    let action = match action.map(|action| action.trim_end_matches([',', '.'])) {
        Some(action) if is_action(action) => action,
        _ if text.contains("KMS") || text.contains("kms") => "kms:Decrypt",
        _ => call,
    };
    let explicit = [
        ("service control policy", "a service control policy of the organisation"),
        ("resource control policy", "a resource control policy of the organisation"),
        ("permissions boundary", "the permissions boundary of the function's role"),
        ("resource-based policy", "the policy of the resource"),
        ("session policy", "a session policy"),
        ("VPC endpoint policy", "the policy of a VPC endpoint"),
    ];
    let by = explicit.iter().find(|(words, _)| text.contains(words)).map(|(_, by)| *by);
    let by_none = text.contains(" because no ");
    match (text.contains("explicit deny"), by) {
        (true, by) => {
            format!("{} denies {action} explicitly", by.unwrap_or("a policy of the function's role"))
        }
        (false, Some(by)) if by_none => format!("{by} must allow {action}"),
        _ if action == "kms:Decrypt" => {
            "the function's role, and the key's policy, must allow kms:Decrypt with the secret's key"
                .to_owned()
        }
        _ if action == "iam:PassRole" => {
            "the function's role must allow iam:PassRole for the roles of TASK_DEFINITION".to_owned()
        }
        _ => format!("the function's role must allow {action}"),
    }
}

/// `service:Action`.
fn is_action(text: &str) -> bool {
    let is_word = |word: &str, and: &str| {
        (1..=64).contains(&word.len()) && word.chars().all(|c| c.is_ascii_alphanumeric() || and.contains(c))
    };
    text.split_once(':').is_some_and(|(service, action)| is_word(service, "-") && is_word(action, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let table = [
            ("ThrottlingException", "Rate exceeded", 400, Class::Transient),
            ("ClientException", "Rate exceeded", 400, Class::Transient),
            (
                "InvalidParameterException",
                "Request limit exceeded. (RequestLimitExceeded)",
                400,
                Class::Transient,
            ),
            ("RequestLimitExceeded", "", 400, Class::Transient),
            ("ServerException", "Service Unavailable", 500, Class::Unknown),
            ("ClientException", "Capacity is unavailable at this time.", 400, Class::NoCapacity),
            ("ClientException", "Tasks provisioning capacity limit exceeded.", 400, Class::NoCapacity),
            (
                "ClientException",
                "You've reached the limit on the number of vCPUs you can run concurrently",
                400,
                Class::OverQuota,
            ),
            (
                "ClientException",
                "You've reached the limit on the number of tasks you can run concurrently",
                400,
                Class::OverQuota,
            ),
            ("ClientException", "TaskDefinition not found.", 400, Class::NeedsOperator),
            ("AccessDeniedException", "…", 400, Class::NeedsOperator),
            ("ClusterNotFoundException", "Cluster not found.", 400, Class::NeedsOperator),
            ("InvalidParameterException", "…", 400, Class::NeedsOperator),
            ("", "", 200, Class::Unknown),
            ("", "", 408, Class::Unknown),
        ];
        for (code, text, status, want) in table {
            assert_eq!(classify(code, text, status, Class::Unknown), want, "{code}: {text}");
        }
    }

    #[test]
    fn a_denied_action_is_named_as_aws_names_it() {
        const WHO: &str =
            "User: arn:aws:sts::123456789012:assumed-role/dispatch/dispatch is not authorized to perform: ";
        const ROLE: &str = "on resource: arn:aws:iam::123456789012:role/task";
        let table = [
            (
                format!(
                    "{WHO}iam:PassRole {ROLE} because no identity-based policy allows the iam:PassRole action"
                ),
                "must allow iam:PassRole for the roles of TASK_DEFINITION",
            ),
            (
                format!("{WHO}ecs:TagResource {ROLE} because no identity-based policy allows it"),
                "the function's role must allow ecs:TagResource",
            ),
            (
                format!("{WHO}ecs:RunTask {ROLE} with an explicit deny in a service control policy"),
                "a service control policy of the organisation denies ecs:RunTask explicitly",
            ),
            (
                format!("{WHO}ecs:RunTask {ROLE} with an explicit deny in an identity-based policy"),
                "a policy of the function's role denies ecs:RunTask explicitly",
            ),
            (
                format!(
                    "{WHO}ecs:RunTask {ROLE} because no permissions boundary allows the ecs:RunTask action"
                ),
                "the permissions boundary of the function's role must allow ecs:RunTask",
            ),
            (
                format!(
                    "{WHO}kms:Decrypt {ROLE} because no resource-based policy allows the kms:Decrypt action"
                ),
                "the policy of the resource must allow kms:Decrypt",
            ),
            ("Access to KMS is not allowed".to_owned(), "must allow kms:Decrypt with the secret's key"),
            (format!("{WHO}<script> {ROLE}"), "the function's role must allow ecs:RunTask"),
            (String::new(), "the function's role must allow ecs:RunTask"),
        ];
        for (text, want) in table {
            let said = fix("AccessDeniedException", &text, "ecs:RunTask").unwrap_or_default();
            assert!(said.contains(want), "{text}: {said}");
            assert!(!said.contains("123456789012"), "{said}");
        }
    }

    #[test]
    fn each_of_ecs_s_refusals_has_its_own_fix() {
        let table = [
            ("TaskDefinition not found.", "TASK_DEFINITION names one that is not registered"),
            ("Unable to describe task definition.", "TASK_DEFINITION names one that is not registered"),
            ("TaskDefinition is inactive", "name one that is active"),
            (
                "Override for container named agent is not a container in the TaskDefinition.",
                "CONTAINER_NAME",
            ),
            ("No Fargate configuration exists for given values.", "no such size"),
            ("Task definition does not support launch_type FARGATE.", "requiresCompatibilities"),
            (
                "The specified capacity provider 'FARGATE_SPOT' was not found.",
                "capacity providers of CAPACITY",
            ),
            (
                "Error retrieving subnet information for [subnet-1]: The subnet ID 'subnet-1' does not exist (ErrorCode: InvalidSubnetID.NotFound)",
                "SUBNET_IDS names a subnet that is not there",
            ),
            (
                "Error retrieving security group information for [sg-1]: (ErrorCode: InvalidGroup.NotFound)",
                "SECURITY_GROUP_IDS names a group",
            ),
            (
                "Security group sg-1 does not appear to belong to the same VPC as the input subnets.",
                "must be of one VPC",
            ),
            (
                "ECS was unable to assume the role 'arn:aws:iam::123456789012:role/task'",
                "must trust ecs-tasks.amazonaws.com",
            ),
            ("Role is not valid", "a role that is not there"),
            (
                "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
                "create-service-linked-role",
            ),
            ("You've reached the limit on the number of vCPUs you can run concurrently", "Service Quotas"),
            ("Something new.", "check TASK_DEFINITION, CONTAINER_NAME"),
        ];
        for (text, want) in table {
            for code in ["ClientException", "InvalidParameterException"] {
                let said = fix(code, text, "ecs:RunTask").unwrap_or_default();
                assert!(said.contains(want), "{text}: {said}");
            }
        }
        assert_eq!(
            fix("InvalidParameterException", "The referenced task was not found.", "ecs:StopTask"),
            None
        );
    }
}
