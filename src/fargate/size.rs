//! Fargate's sizes, and the nearest one that is large enough.

use std::fmt;

/// A size that Fargate has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    /// CPU units: 1024 are one vCPU.
    pub cpu: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CPU units with {} MiB", self.cpu, self.memory_mib)
    }
}

/// One row of Fargate's table: a CPU value, and the memory it may have.
struct SizeRow {
    cpu: u32,
    least: u32,
    most: u32,
    step: u32,
}

/// "Task CPU and memory", Amazon ECS Developer Guide, Linux. 256 CPU units really have the three values 512,
/// 1024 and 2048: the one gap, 1536, is seen to below.
const TABLE: [SizeRow; 7] = [
    SizeRow { cpu: 256, least: 512, most: 2048, step: 512 },
    SizeRow { cpu: 512, least: 1024, most: 4096, step: 1024 },
    SizeRow { cpu: 1024, least: 2048, most: 8192, step: 1024 },
    SizeRow { cpu: 2048, least: 4096, most: 16384, step: 1024 },
    SizeRow { cpu: 4096, least: 8192, most: 30720, step: 1024 },
    SizeRow { cpu: 8192, least: 16384, most: 61440, step: 4096 },
    SizeRow { cpu: 16384, least: 32768, most: 122_880, step: 8192 },
];

/// The largest size that Fargate has.
pub const LARGEST: Size = Size { cpu: 16384, memory_mib: 122_880 };

impl SizeRow {
    fn memory_at_least(&self, mib: u32) -> Option<u32> {
        let rounded = mib.max(self.least).div_ceil(self.step).checked_mul(self.step)?;
        let rounded = if self.cpu == 256 && rounded == 1536 { 2048 } else { rounded };
        (rounded <= self.most).then_some(rounded)
    }
}

impl Size {
    /// The smallest size with at least so many CPU units and, within that, at least so much memory. CPU alone
    /// gets twice its vCPU in GiB; memory alone gets the smallest CPU that allows it. `None` when it is more
    /// than Fargate has.
    pub fn at_least(cpu: Option<u32>, memory_mib: Option<u32>) -> Option<Size> {
        let memory_mib = memory_mib.unwrap_or_else(|| cpu.unwrap_or_default().saturating_mul(2));
        TABLE.iter().filter(|row| row.cpu >= cpu.unwrap_or_default()).find_map(|row| {
            row.memory_at_least(memory_mib).map(|memory_mib| Size { cpu: row.cpu, memory_mib })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn size(cpu: u32, memory_mib: u32) -> Option<Size> {
        Some(Size { cpu, memory_mib })
    }

    #[test]
    fn rounding() {
        let table = [
            (Some(1024), Some(2048), size(1024, 2048)),
            (Some(2048), None, size(2048, 4096)),
            (Some(256), None, size(256, 512)),
            (Some(16384), None, size(16384, 32768)),
            (None, Some(8192), size(1024, 8192)),
            (None, Some(1), size(256, 512)),
            (Some(256), Some(1536), size(256, 2048)),
            (Some(3072), Some(8192), size(4096, 8192)),
            (Some(1024), Some(9000), size(2048, 9216)),
            (Some(4096), Some(30721), size(8192, 32768)),
            (Some(16384), Some(122_880), size(16384, 122_880)),
            (Some(16384), Some(122_881), None),
            (Some(16385), None, None),
            (None, Some(u32::MAX), None),
            (Some(u32::MAX), None, None),
        ];
        for (cpu, memory, want) in table {
            assert_eq!(Size::at_least(cpu, memory), want, "{cpu:?} {memory:?}");
        }
    }

    proptest! {
        #[test]
        fn never_down_and_always_one_of_fargates(cpu in 0u32..20_000, memory in 0u32..140_000) {
            match Size::at_least(Some(cpu), Some(memory)) {
                Some(size) => {
                    prop_assert_eq!(Size::at_least(Some(size.cpu), Some(size.memory_mib)), Some(size));
                    prop_assert!(size.cpu >= cpu && size.memory_mib >= memory);
                }
                None => prop_assert!(cpu > LARGEST.cpu || memory > LARGEST.memory_mib),
            }
        }

        #[test]
        fn a_valid_size_stays(row in 0usize..7, steps in 0u32..20) {
            let row = &TABLE[row];
            let memory_mib = (row.least + steps * row.step).min(row.most);
            prop_assume!(!(row.cpu == 256 && memory_mib == 1536));
            prop_assert_eq!(Size::at_least(Some(row.cpu), Some(memory_mib)), size(row.cpu, memory_mib));
        }
    }
}
