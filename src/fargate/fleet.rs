//! What tasks are made of, whoever they are for: definitions, capacities, network.

use std::fmt;

/// What tasks are made of: the part of the settings that goes into a request.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// `TASK_DEFINITION`: family, family:revision or ARN, for x64.
    pub task_definition: String,
    /// `TASK_DEFINITION_ARM64`.
    pub task_definition_arm64: Option<String>,
    /// `CONTAINER_NAME`.
    pub container: String,
    /// `CAPACITY`, in order of preference; never empty.
    pub capacities: Vec<Capacity>,
}

/// Where the capacity comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capacity {
    /// No capacity provider named: `launchType` FARGATE.
    LaunchType,
    /// The capacity provider FARGATE: on-demand.
    Fargate,
    /// The capacity provider FARGATE_SPOT. Fargate never falls back from it by itself.
    FargateSpot,
    /// Another capacity provider of the cluster, by its name: ECS Managed Instances, or EC2.
    Named(String),
}

impl Capacity {
    /// The capacity provider of that name.
    pub fn of_provider(name: &str) -> Self {
        match name {
            "FARGATE" => Capacity::Fargate,
            "FARGATE_SPOT" => Capacity::FargateSpot,
            _ => Capacity::Named(name.to_owned()),
        }
    }

    /// The capacity provider's name; `None` when the launch type is used.
    pub fn provider(&self) -> Option<&str> {
        match self {
            Capacity::LaunchType => None,
            Capacity::Fargate => Some("FARGATE"),
            Capacity::FargateSpot => Some("FARGATE_SPOT"),
            Capacity::Named(name) => Some(name),
        }
    }

    /// Whether it is Fargate's, which has sizes, disks and public addresses of its own.
    pub fn is_fargate(&self) -> bool {
        !matches!(self, Capacity::Named(_))
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.provider().unwrap_or("FARGATE"))
    }
}

/// Where tasks get their network from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// `SUBNET_IDS`.
    pub subnets: Vec<String>,
    /// `SECURITY_GROUP_IDS`.
    pub security_groups: Vec<String>,
    /// `ASSIGN_PUBLIC_IP`.
    pub public_ip: bool,
}
