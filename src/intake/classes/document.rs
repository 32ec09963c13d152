//! Reads a document of runner classes. All its mistakes are told together, each with its place: a document is written
//! by hand, and nobody likes to be told of one after the other.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::{Time, Weekday};

use super::{
    super::labels::{flaw, shown},
    Classes, Largest, RunnerClass, is_own, is_sizing,
    pool::{PoolPlan, Shift},
};
use crate::{
    fargate::{
        fleet::Capacity,
        size::{LARGEST, Size},
    },
    intake::glob::RepositoryGlob,
    ports::RunnerGroup,
};

/// Everything that is wrong with a document: places and what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentMistakes(pub Vec<String>);

impl fmt::Display for DocumentMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for DocumentMistakes {}

/// The most rows of a document: a sweep and a log line must be able to go through all.
const MOST_CLASSES: usize = 200;
/// AwsVpcConfiguration of ECS's API: "up to 16 subnets", "up to 5 security groups".
const MOST_SUBNETS: usize = 16;
const MOST_SECURITY_GROUPS: usize = 5;
/// A pool is paid for by the hour.
const LARGEST_POOL: u32 = 1000;

/// Reads a document in JSON. `common` are the labels (in lower case) that a job of any class may have.
pub fn read(json: &str, common: &BTreeSet<String>) -> Result<Classes, DocumentMistakes> {
    let value: Value = serde_json::from_str(json).map_err(|error| {
        DocumentMistakes(vec![format!(
            "the document: is not JSON (line {}, column {})",
            error.line(),
            error.column()
        )])
    })?;
    let told = RefCell::default();
    let classes = Table::of("", value, &told).map(|table| document(table, common));
    let mut mistakes = told.take();
    mistakes.dedup();
    match classes {
        Some(classes) if mistakes.is_empty() => Ok(classes),
        _ => Err(DocumentMistakes(mistakes)),
    }
}

fn document(mut table: Table<'_>, common: &BTreeSet<String>) -> Classes {
    // For editors.
    table.take::<String>("$schema", "the address of the schema");
    let version = table.number("version", 1, u32::MAX);
    if version.is_none() && !table.was("version") {
        table.wrong("version", "is missing: a whole number, one more at each change");
    }
    let version = u64::from(version.unwrap_or_default());
    let rows = table.tables("classes").unwrap_or_else(|| {
        if !table.was("classes") {
            table.wrong("classes", "is missing: a list of classes");
        }
        Vec::new()
    });
    if table.was("classes") && !(1..=MOST_CLASSES).contains(&table.length("classes")) {
        table.wrong("classes", &format!("has 1 to {MOST_CLASSES} classes"));
    }
    let told = table.told;
    let classes: Vec<(String, RunnerClass)> =
        rows.into_iter().map(|row| (row.path.clone(), class(row, version))).collect();
    table.end();
    tell_overlaps(&classes, common, told);
    Classes {
        version,
        classes: classes.into_iter().map(|(_, class)| Arc::new(class)).collect(),
        common: common.clone(),
    }
}

/// Names that are there twice, and classes of which one's jobs could be given the other's runners.
fn tell_overlaps(classes: &[(String, RunnerClass)], common: &BTreeSet<String>, told: &RefCell<Vec<String>>) {
    let own = |class: &RunnerClass| -> BTreeSet<String> {
        class.labels.iter().filter(|label| is_own(label, common)).cloned().collect()
    };
    let tell = |path: &str, what: String| told.borrow_mut().push(format!("{path}: {what}"));
    for (nth, (path, class)) in classes.iter().enumerate() {
        for (before, other) in &classes[..nth] {
            if !class.name.is_empty() && class.name.eq_ignore_ascii_case(&other.name) {
                tell(&format!("{path}.name"), format!("is the name of {before} too"));
            }
            // What was told of already.
            if class.labels.is_empty() || other.labels.is_empty() {
                continue;
            }
            let (mine, its) = (own(class), own(other));
            let place = format!("{path}.labels");
            let (few, many) = if mine.len() <= its.len() { (path, before) } else { (before, path) };
            if mine == its {
                let what = match mine.is_empty() {
                    true => {
                        "like those of {}, are none of its own: one class may serve jobs that choose none"
                    }
                    false => "choose {} too: each class needs labels of its own",
                };
                tell(&place, what.replace("{}", before));
            } else if !mine.is_empty() && !its.is_empty() && (mine.is_subset(&its) || its.is_subset(&mine)) {
                tell(
                    &place,
                    format!(
                        "a runner of {many} has all labels of {few}, so GitHub would give it the jobs of both: \
                         neither's labels may be among the other's"
                    ),
                );
            }
        }
    }
}

fn class(mut row: Table<'_>, version: u64) -> RunnerClass {
    let name = row.take::<String>("name", "text");
    let fits = |name: &String| {
        (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !name.as_ref().is_some_and(fits) {
        row.wrong_once("name", "should be 1 to 64 letters, digits, hyphens, dots or underscores");
    }
    let labels = labels(&mut row);
    let capacity = capacity(&mut row);
    let (default_size, default_disk) = default_size(&mut row, &capacity);
    let largest_size = largest_size(&mut row, default_size, default_disk);
    let class = RunnerClass {
        name: name.unwrap_or_default(),
        version,
        labels,
        task_definition: row.definition("task_definition"),
        task_definition_arm64: row.definition("task_definition_arm64"),
        default_size,
        default_disk,
        largest_size,
        capacity,
        subnets: row.ids("subnet_ids", "subnet-", MOST_SUBNETS),
        security_groups: row.ids("security_group_ids", "sg-", MOST_SECURITY_GROUPS),
        public_ip: row.take("assign_public_ip", "true or false"),
        group: group(&mut row, "runner_group"),
        high_priority_group: group(&mut row, "high_priority_runner_group"),
        max_runners: row.number("max_runners", 1, u32::MAX),
        max_runners_per_owner: row.number("max_runners_per_owner", 1, u32::MAX),
        max_runners_per_repository: row.number("max_runners_per_repository", 1, u32::MAX),
        repositories: row.globs("repositories"),
        high_priority: row.globs("high_priority_repositories"),
        allow_public: row.take("allow_public_repositories", "true or false"),
        idle_timeout: row.number("idle_timeout_seconds", 60, 86_400),
        pool: row.table("pool").map(pool),
    };
    row.end();
    class
}

fn labels(row: &mut Table<'_>) -> BTreeSet<String> {
    let Some(texts) = row.texts("labels") else {
        row.wrong_once("labels", "is missing: the labels that choose the class");
        return BTreeSet::new();
    };
    if row.length("labels") == 0 {
        row.wrong("labels", "should be at least one label");
    }
    let mut labels = BTreeSet::new();
    for (nth, text) in texts.into_iter().enumerate() {
        let label = text.trim().to_lowercase();
        let wrong = match label.as_str() {
            "x64" | "arm64" => None,
            "*" => Some("should be a label, and * is none"),
            _ if label.contains('/') => Some("has a / in it, which parts labels"),
            _ if label.starts_with("priority=") => Some("is a word for any class"),
            _ if is_sizing(&label) => Some("is a size label, which any job may have"),
            _ => flaw(&label),
        };
        match wrong {
            Some(wrong) => row.wrong(&format!("labels[{nth}]"), wrong),
            None => drop(labels.insert(label)),
        }
    }
    labels
}

/// CreateCapacityProvider: "up to 255 letters, numbers, underscores and hyphens", not beginning with `aws`, `ecs` or
/// `fargate`.
fn capacity(row: &mut Table<'_>) -> Vec<Capacity> {
    let Some(names) = row.texts("capacity") else { return Vec::new() };
    if row.length("capacity") == 0 {
        row.wrong("capacity", "should be at least one capacity provider");
    }
    let mut seen = BTreeSet::new();
    for (nth, name) in names.iter().enumerate() {
        let place = format!("capacity[{nth}]");
        let is_fargates = ["FARGATE", "FARGATE_SPOT"].contains(&name.as_str());
        let lower = name.to_lowercase();
        let is_name = (1..=255).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
            && !["aws", "ecs", "fargate"].iter().any(|prefix| lower.starts_with(prefix));
        if !is_fargates && !is_name {
            row.wrong(&place, "should be FARGATE, FARGATE_SPOT or the name of a capacity provider");
        }
        if !seen.insert(name) {
            row.wrong(&place, "is there twice");
        }
    }
    names.iter().map(|name| Capacity::of_provider(name)).collect()
}

/// Fargate has some sizes only; other capacity has any.
fn default_size(row: &mut Table<'_>, capacity: &[Capacity]) -> (Option<Size>, Option<u32>) {
    let Some(mut table) = row.table("default_size") else { return (None, None) };
    let (cpu, memory) =
        (table.number("cpu", 128, LARGEST.cpu), table.number("memory", 128, LARGEST.memory_mib));
    let disk = table.number("disk", 21, 200);
    for (name, number) in [("cpu", cpu), ("memory", memory)] {
        if number.is_none() && !table.was(name) {
            table.wrong(name, "is missing: CPU units, and MiB of memory");
        }
    }
    let size = cpu.zip(memory).map(|(cpu, memory_mib)| Size { cpu, memory_mib });
    if let Some(size) = size
        && (capacity.is_empty() || capacity.iter().any(Capacity::is_fargate))
    {
        let nearest = Size::at_least(Some(size.cpu), Some(size.memory_mib));
        if nearest != Some(size) {
            let nearest = nearest.map(|it| format!("; the next is {it}")).unwrap_or_default();
            row.wrong("default_size", &format!("Fargate has no size of {size}{nearest}"));
        }
    }
    table.end();
    (size, disk)
}

fn largest_size(row: &mut Table<'_>, size: Option<Size>, disk: Option<u32>) -> Largest {
    let Some(mut table) = row.table("largest_size") else { return Largest::default() };
    let largest = Largest {
        cpu: table.number("cpu", 128, LARGEST.cpu),
        memory_mib: table.number("memory", 128, LARGEST.memory_mib),
        disk_gib: table.number("disk", 21, 200),
    };
    let defaults = [
        ("cpu", size.map(|size| size.cpu), largest.cpu),
        ("memory", size.map(|size| size.memory_mib), largest.memory_mib),
        ("disk", disk, largest.disk_gib),
    ];
    for (name, default, largest) in defaults {
        if default.zip(largest).is_some_and(|(default, largest)| default > largest) {
            table.wrong(name, "is less than default_size has");
        }
    }
    table.end();
    largest
}

fn group(row: &mut Table<'_>, field: &str) -> Option<RunnerGroup> {
    let form = "should be the number or the name of a runner group";
    match row.take::<Value>(field, "")? {
        Value::Number(number) => match number.as_u64().filter(|id| *id > 0) {
            Some(id) => return Some(RunnerGroup::Id(id)),
            None => row.wrong(field, form),
        },
        Value::String(name) if !name.trim().is_empty() => return Some(RunnerGroup::Named(name)),
        _ => row.wrong(field, form),
    }
    None
}

fn pool(mut table: Table<'_>) -> PoolPlan {
    let size = table.number("size", 0, LARGEST_POOL);
    if size.is_none() && !table.was("size") {
        table.wrong("size", "is missing: how many idle runners are kept ready");
    }
    let shifts = table.tables("schedule").unwrap_or_default();
    let schedule = shifts.into_iter().filter_map(shift).collect();
    table.end();
    PoolPlan { size: size.unwrap_or_default(), schedule }
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

fn shift(mut table: Table<'_>) -> Option<Shift> {
    let mut days = Vec::new();
    match table.texts("days") {
        Some(names) => {
            for (nth, name) in names.iter().enumerate() {
                match DAYS.iter().find(|(day, _)| day == name) {
                    Some((_, day)) => days.push(*day),
                    None => {
                        table.wrong(&format!("days[{nth}]"), "should be mon, tue, wed, thu, fri, sat or sun")
                    }
                }
            }
            if table.length("days") == 0 {
                table.wrong("days", "should be at least one day");
            }
        }
        None => days.extend(DAYS.map(|(_, day)| day)),
    }
    let (from, to) = (table.hour("from"), table.hour("to"));
    let size = table.number("size", 0, LARGEST_POOL);
    if size.is_none() && !table.was("size") {
        table.wrong("size", "is missing: how many idle runners are kept ready");
    }
    if from.is_some() && from == to {
        table.wrong("to", "is from: a shift has a length");
    }
    table.end();
    Some(Shift { days, from: from?, to: to?, size: size? })
}

/// An object of the document: fields are taken out, each with its own mistakes, and what is left is none of ours.
struct Table<'a> {
    path: String,
    fields: Map<String, Value>,
    /// Fields that were taken, and how long they were.
    taken: BTreeMap<String, usize>,
    told: &'a RefCell<Vec<String>>,
}

impl<'a> Table<'a> {
    fn of(path: &str, value: Value, told: &'a RefCell<Vec<String>>) -> Option<Self> {
        match value {
            Value::Object(fields) => {
                Some(Table { path: path.to_owned(), fields, taken: BTreeMap::new(), told })
            }
            _ => {
                let place = if path.is_empty() { "the document" } else { path };
                told.borrow_mut().push(format!("{place}: should be an object"));
                None
            }
        }
    }

    fn place(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn wrong(&self, field: &str, what: &str) {
        self.told.borrow_mut().push(format!("{}: {what}", self.place(field)));
    }

    /// Unless something was told of that field already.
    fn wrong_once(&self, field: &str, what: &str) {
        let place = self.place(field);
        let is_told = self.told.borrow().iter().any(|told| told.starts_with(&format!("{place}:")));
        if !is_told {
            self.wrong(field, what);
        }
    }

    fn was(&self, field: &str) -> bool {
        self.taken.contains_key(field)
    }

    fn length(&self, field: &str) -> usize {
        self.taken.get(field).copied().unwrap_or_default()
    }

    /// A field that is not there, or is wrong, is `None`. `null` is no value.
    fn take<T: DeserializeOwned>(&mut self, field: &str, form: &str) -> Option<T> {
        let value = self.fields.remove(field)?;
        self.taken.insert(field.to_owned(), value.as_array().map_or(1, Vec::len));
        let read = serde_json::from_value(value).ok();
        if read.is_none() {
            self.wrong(field, &format!("should be {form}"));
        }
        read
    }

    fn number(&mut self, field: &str, least: u32, most: u32) -> Option<u32> {
        let form = match most {
            u32::MAX => format!("a whole number of {least} or more"),
            _ => format!("a whole number from {least} to {most}"),
        };
        let number: u32 = self.take(field, &form)?;
        let fits = (least..=most).contains(&number);
        if !fits {
            self.wrong(field, &format!("should be {form}"));
        }
        fits.then_some(number)
    }

    /// A list of texts; one of the wrong type is told with its own place.
    fn texts(&mut self, field: &str) -> Option<Vec<String>> {
        let values: Vec<Value> = self.take(field, "a list of texts")?;
        let mut texts = Vec::new();
        for (nth, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                _ => self.wrong(&format!("{field}[{nth}]"), "should be text"),
            }
        }
        Some(texts)
    }

    fn table(&mut self, field: &str) -> Option<Table<'a>> {
        let value: Value = self.take(field, "an object")?;
        Table::of(&self.place(field), value, self.told)
    }

    fn tables(&mut self, field: &str) -> Option<Vec<Table<'a>>> {
        let values: Vec<Value> = self.take(field, "a list of objects")?;
        let place = |nth| self.place(&format!("{field}[{nth}]"));
        let tables =
            values.into_iter().enumerate().map(|(nth, value)| Table::of(&place(nth), value, self.told));
        Some(tables.collect::<Vec<_>>().into_iter().flatten().collect())
    }

    /// RunTask: "the family and revision (family:revision) or full ARN".
    fn definition(&mut self, field: &str) -> Option<String> {
        let form = "a task definition: family, family:revision or ARN";
        let text: String = self.take(field, form)?;
        let fits = (1..=2048).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_:/".contains(c));
        if !fits {
            self.wrong(field, &format!("should be {form}"));
        }
        fits.then_some(text)
    }

    fn ids(&mut self, field: &str, prefix: &str, most: usize) -> Vec<String> {
        let Some(ids) = self.texts(field) else { return Vec::new() };
        if !(1..=most).contains(&self.length(field)) {
            self.wrong_once(field, &format!("should be 1 to {most} such as {prefix}0123456789abcdef0"));
        }
        for (nth, id) in ids.iter().enumerate() {
            if !id.strip_prefix(prefix).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric())) {
                self.wrong(
                    &format!("{field}[{nth}]"),
                    &format!("should look like {prefix}0123456789abcdef0"),
                );
            }
        }
        ids
    }

    fn globs(&mut self, field: &str) -> Vec<RepositoryGlob> {
        let Some(globs) = self.texts(field) else { return Vec::new() };
        if self.length(field) == 0 {
            self.wrong_once(field, "should be at least one pattern such as acme/*");
        }
        for (nth, glob) in globs.iter().enumerate() {
            if glob != "*" && glob.split('/').filter(|part| !part.trim().is_empty()).count() != 2 {
                let what = format!("{} should be an owner/repository pattern such as acme/*", shown(glob));
                self.wrong(&format!("{field}[{nth}]"), &what);
            }
        }
        globs.iter().map(|glob| RepositoryGlob::new(glob)).collect()
    }

    fn hour(&mut self, field: &str) -> Option<Time> {
        let form = "an hour such as 07:30, in UTC";
        let text: Option<String> = self.take(field, form);
        if text.is_none() && !self.was(field) {
            self.wrong(field, &format!("is missing: {form}"));
        }
        let text = text?;
        let time = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2);
        let time = time.and_then(|(hour, minute)| Some((hour.parse().ok()?, minute.parse().ok()?)));
        let time = time.and_then(|(hour, minute)| Time::from_hms(hour, minute, 0).ok());
        if time.is_none() {
            self.wrong(field, &format!("should be {form}"));
        }
        time
    }

    /// What was not taken is unknown.
    fn end(self) {
        for field in self.fields.keys() {
            self.wrong(&shown(field).replace('"', ""), "there is no such field");
        }
    }
}
