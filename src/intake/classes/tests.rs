use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};
use time::macros::time;

use super::*;

fn common() -> BTreeSet<String> {
    ["self-hosted", "linux", "x64", "fargate"].map(str::to_owned).into()
}

fn classes(rows: Value) -> Classes {
    read(&json!({"version": 3, "classes": rows}).to_string(), &common())
        .unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn mistakes(document: &Value) -> Vec<String> {
    read(&document.to_string(), &common()).expect_err("mistakes").0
}

fn whole() -> Value {
    json!({"version": 1, "classes": [{
        "name": "big", "labels": ["Big"], "task_definition": "runner", "task_definition_arm64": "runner-arm64:7",
        "default_size": {"cpu": 4096, "memory": 16384, "disk": 50}, "largest_size": {"cpu": 8192, "memory": 61440},
        "capacity": ["FARGATE_SPOT", "FARGATE", "gpu-machines"], "subnet_ids": ["subnet-0a"],
        "security_group_ids": ["sg-0a"], "assign_public_ip": false, "runner_group": "builders", "max_runners": 50,
        "max_runners_per_owner": 40, "max_runners_per_repository": 10, "repositories": ["acme/*"], "high_priority_repositories": ["acme/release"],
        "high_priority_runner_group": 7, "allow_public_repositories": false, "idle_timeout_seconds": 600,
        "pool": {"size": 2, "schedule": [{"days": ["mon"], "from": "07:00", "to": "18:30", "size": 9}]},
    }]})
}

#[test]
fn every_field() {
    let read = read(&whole().to_string(), &common()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let class = &read.classes[0];
    assert_eq!((class.name.as_str(), class.version), ("big", 1));
    assert_eq!(class.labels, BTreeSet::from(["big".to_owned()]));
    assert_eq!(class.default_size, Some(Size { cpu: 4096, memory_mib: 16384 }));
    assert_eq!((class.default_disk, class.idle_timeout), (Some(50), Some(600)));
    let named = Capacity::Named("gpu-machines".to_owned());
    assert_eq!(class.capacity, [Capacity::FargateSpot, Capacity::Fargate, named]);
    let repository =
        |name: &str| Target { owner: "acme".into(), repository: Some(name.into()), ..Target::default() };
    let builders = Some(&RunnerGroup::Named("builders".to_owned()));
    assert_eq!(class.group_for(&repository("app"), &["big"]), builders);
    assert_eq!(class.group_for(&repository("release"), &["big"]), Some(&RunnerGroup::Id(7)));
    assert_eq!(class.group_for(&repository("release"), &["big", "priority=normal"]), builders);
    assert_eq!((class.max_runners, class.max_runners_per_owner), (Some(50), Some(40)));
    assert_eq!(class.max_runners_per_repository, Some(10));
    assert_eq!((class.allow_public, class.public_ip), (Some(false), Some(false)));
    let pool = class.pool.as_ref().expect("a pool");
    assert_eq!((pool.size, pool.schedule[0].size, pool.schedule[0].to), (2, 9, time!(18:30)));
}

/// Each is changed into a mistake, and told with its place.
fn assert_refused(table: &[(&str, Value, &str)]) {
    for (place, value, want) in table {
        let mut document = whole();
        *document.pointer_mut(place).expect(place) = value.clone();
        let told = mistakes(&document);
        assert!(told.len() == 1 && told[0].starts_with(want), "{place}: {told:?}");
    }
}

#[test]
fn every_mistake_has_its_place() {
    assert_refused(&[
        ("/version", json!(0), "version: should be a whole number of 1 or more"),
        ("/version", json!("1"), "version: should be a whole number of 1 or more"),
        ("/classes", json!([]), "classes: has 1 to 200 classes"),
        ("/classes", json!({}), "classes: should be a list of objects"),
        ("/classes/0", json!("big"), "classes[0]: should be an object"),
        ("/classes/0/name", json!("a b"), "classes[0].name: should be 1 to 64 letters"),
        ("/classes/0/name", json!(7), "classes[0].name: should be text"),
        ("/classes/0/labels", json!([]), "classes[0].labels: should be at least one label"),
        ("/classes/0/labels/0", json!("cpu=2"), "classes[0].labels[0]: is a size label"),
        ("/classes/0/labels/0", json!("spot"), "classes[0].labels[0]: is a size label"),
        ("/classes/0/labels/0", json!("a/b"), "classes[0].labels[0]: has a / in it"),
        ("/classes/0/labels/0", json!("*"), "classes[0].labels[0]: should be a label"),
        ("/classes/0/labels/0", json!(1), "classes[0].labels[0]: should be text"),
        ("/classes/0/task_definition", json!(""), "classes[0].task_definition: should be a task definition"),
        ("/classes/0/default_size/cpu", json!("4"), "classes[0].default_size.cpu: should be a whole number"),
        (
            "/classes/0/default_size/memory",
            json!(1000),
            "classes[0].default_size: Fargate has no size of 4096 CPU",
        ),
        (
            "/classes/0/largest_size/cpu",
            json!(2048),
            "classes[0].largest_size.cpu: is less than default_size",
        ),
        (
            "/classes/0/largest_size/cpu",
            json!(99999),
            "classes[0].largest_size.cpu: should be a whole number",
        ),
        ("/classes/0/capacity", json!([]), "classes[0].capacity: should be at least one"),
        ("/classes/0/capacity/1", json!("FARGATE_SPOTS"), "classes[0].capacity[1]: should be FARGATE"),
        ("/classes/0/capacity/1", json!("FARGATE_SPOT"), "classes[0].capacity[1]: is there twice"),
    ]);
}

#[test]
fn every_mistake_of_what_is_optional_has_its_place() {
    assert_refused(&[
        ("/classes/0/subnet_ids/0", json!("vpc-1"), "classes[0].subnet_ids[0]: should look like subnet-"),
        ("/classes/0/security_group_ids", json!([]), "classes[0].security_group_ids: should be 1 to 5"),
        ("/classes/0/assign_public_ip", json!("no"), "classes[0].assign_public_ip: should be true or false"),
        ("/classes/0/runner_group", json!(0), "classes[0].runner_group: should be the number or the name"),
        ("/classes/0/runner_group", json!(" "), "classes[0].runner_group: should be the number or the name"),
        (
            "/classes/0/high_priority_runner_group",
            json!(0),
            "classes[0].high_priority_runner_group: should be the number",
        ),
        ("/classes/0/max_runners", json!(0), "classes[0].max_runners: should be a whole number of 1 or more"),
        (
            "/classes/0/max_runners_per_owner",
            json!("many"),
            "classes[0].max_runners_per_owner: should be a whole number of 1 or more",
        ),
        (
            "/classes/0/max_runners_per_repository",
            json!(-1),
            "classes[0].max_runners_per_repository: should be",
        ),
        (
            "/classes/0/repositories/0",
            json!("acme"),
            "classes[0].repositories[0]: \"acme\" should be an owner/",
        ),
        (
            "/classes/0/high_priority_repositories",
            json!([]),
            "classes[0].high_priority_repositories: should be",
        ),
        (
            "/classes/0/allow_public_repositories",
            json!(1),
            "classes[0].allow_public_repositories: should be true",
        ),
        (
            "/classes/0/idle_timeout_seconds",
            json!(59),
            "classes[0].idle_timeout_seconds: should be a whole number",
        ),
        ("/classes/0/pool/size", json!(-1), "classes[0].pool.size: should be a whole number from 0 to 1000"),
        (
            "/classes/0/pool/schedule/0/days/0",
            json!("monday"),
            "classes[0].pool.schedule[0].days[0]: should be mon",
        ),
        (
            "/classes/0/pool/schedule/0/from",
            json!("24:00"),
            "classes[0].pool.schedule[0].from: should be an hour",
        ),
        ("/classes/0/pool/schedule/0/to", json!("07:00"), "classes[0].pool.schedule[0].to: is from"),
    ]);
}

/// The published schema is held against the same documents (tests/template/test_classes.py).
#[test]
fn good_and_bad_documents() {
    let cases: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/classes.json")).expect("JSON");
    assert_eq!(cases["document"], whole());
    for case in cases["changes"].as_array().expect("changes") {
        let mut document = whole();
        let (way, field) = case["at"].as_str().and_then(|at| at.rsplit_once('/')).expect("a place");
        match document.pointer_mut(way).expect(way) {
            Value::Array(items) => items[field.parse::<usize>().expect(field)] = case["to"].clone(),
            Value::Object(fields) => drop(fields.insert(field.to_owned(), case["to"].clone())),
            other => panic!("{way}: {other}"),
        }
        let told = read(&document.to_string(), &common()).map(drop);
        assert_eq!(told.is_ok(), case["program"], "{case}: {told:?}");
    }
}

#[test]
fn the_example_of_the_page_has_no_mistakes() {
    let page = include_str!("../../../docs/classes.md");
    let example = page.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let classes = read(example, &common()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let class = |labels: &[&str]| classes.route(labels).map(|(class, _)| class.name.clone());
    assert_eq!(class(&["self-hosted", "big", "cpu=8"]), Ok("big".to_owned()));
    assert_eq!(class(&["self-hosted", "fargate"]), Ok("usual".to_owned()));
}

#[test]
fn what_is_no_document() {
    let missing = [
        "version: is missing: a whole number, one more at each change",
        "classes: is missing: a list of classes",
    ];
    assert_eq!(mistakes(&json!({})), missing);
    assert_eq!(read("{", &common()).expect_err("no JSON").0.len(), 1);
    assert_eq!(mistakes(&json!([])), ["the document: should be an object"]);
}

#[test]
fn all_mistakes_are_told_together() {
    let told = mistakes(&json!({"version": 1, "lasses": [], "classes": [
        {"name": "a", "labels": ["a"], "colour": "red", "max_runners": "many"},
        {"labels": "b", "pool": {"from": 1}},
        {"name": "A", "labels": ["fargate", "A"], "largest_size": {"cpu": "x", "memory": "y"}},
        {"name": "d", "labels": ["a", "d"]},
        {"name": "e", "labels": ["linux"]},
        {"name": "f", "labels": ["fargate", "x64"]},
    ]}));
    let places: Vec<&str> = told.iter().filter_map(|it| it.split(": ").next()).collect();
    assert_eq!(
        places,
        [
            "classes[0].max_runners",
            "classes[0].colour",
            "classes[1].name",
            "classes[1].labels",
            "classes[1].pool.size",
            "classes[1].pool.from",
            "classes[2].largest_size.cpu",
            "classes[2].largest_size.memory",
            "lasses",
            "classes[2].name",
            "classes[2].labels",
            "classes[3].labels",
            "classes[3].labels",
            "classes[5].labels",
        ],
        "{told:#?}"
    );
}

fn three() -> Classes {
    classes(json!([
        {"name": "usual", "labels": ["fargate"]},
        {"name": "big", "labels": ["big"], "default_size": {"cpu": 8192, "memory": 16384},
         "largest_size": {"cpu": 8192, "memory": 32768}},
        {"name": "t4", "labels": ["gpu", "t4"], "capacity": ["gpu-machines"], "task_definition_arm64": "arm"},
        {"name": "a100", "labels": ["gpu", "a100"], "capacity": ["gpu-machines", "FARGATE"]},
    ]))
}

#[test]
fn which_class() {
    let table: [(&[&str], &str); 18] = [
        (&["self-hosted"], "usual"),
        (&["fargate", "cpu=4"], "usual"),
        (&["self-hosted", "linux", "x64", "fargate", "run=1/2"], "usual"),
        (&["big"], "big"),
        (&["self-hosted", "BIG", "priority=high"], "big"),
        (&["fargate/big/cpu=2"], "big"),
        (&["gpu", "t4"], "t4"),
        (&["a100", "self-hosted", "gpu"], "a100"),
        (&["gpu"], "no class has exactly the labels \"gpu\": class t4 has gpu, t4; class a100 has a100, gpu"),
        (&["gpu", "t4", "a100"], "no class has exactly the labels \"a100, gpu, t4\""),
        (&["big", "gpu"], "no class has exactly the labels \"big, gpu\": class big has big; class t4 has"),
        (&["big", "huge"], "label \"huge\" is not offered"),
        (&["ubuntu-latest"], "label \"ubuntu-latest\" is not offered"),
        (&["cpu=2"], "none of the labels is offered"),
        (&["priority=high"], "none of the labels is offered"),
        (&[], "none of the labels is offered"),
        (&["big", "cpu=many"], "impossible: label \"cpu=many\" should look like"),
        (&["big", "spot", "on-demand"], "impossible: the labels name two different values"),
    ];
    for (labels, want) in table {
        let got = match three().route(labels) {
            Ok((class, _)) => class.name.clone(),
            Err(NoRunner::NotOffered(why)) => why,
            Err(NoRunner::Impossible(why)) => format!("impossible: {why}"),
        };
        assert!(got.starts_with(want), "{labels:?}: {got}");
    }
    let without = classes(json!([{"name": "big", "labels": ["big"]}]));
    let none = without.route(&["self-hosted"]).expect_err("none");
    assert!(matches!(none, NoRunner::NotOffered(why) if why.starts_with("the labels choose no class")));
}

#[test]
fn what_a_class_gives() {
    let most = Most::default();
    let sized = |labels: &[&str], arm64: bool| {
        let (class, asked) = three().route(labels)?;
        class.size(asked, arm64, &most)
    };
    let size = |cpu, memory_mib| Some(Size { cpu, memory_mib });
    assert_eq!(sized(&["big"], false).map(|it| it.size), Ok(size(8192, 16384)));
    assert_eq!(sized(&["big", "cpu=2"], false).map(|it| it.size), Ok(size(2048, 4096)));
    assert_eq!(sized(&["fargate"], false).map(|it| it.size), Ok(None));
    assert_eq!(sized(&["gpu", "t4"], false).map(|it| it.architecture), Ok(Some(Architecture::Arm64)));
    for (labels, arm64, want) in [
        (&["big", "cpu=16"][..], false, "the most in class big is 8192 CPU units with 32768 MiB"),
        (&["big", "ram=40"], false, "the most in class big"),
        (&["big", "arm64"], false, "class big has no task definition for arm64"),
        (&["gpu", "t4", "x64"], true, "class t4 has no task definition for x64"),
        (&["gpu", "t4", "spot"], true, "spot is Fargate's, and class t4 is on none of it"),
        (&["gpu", "t4", "disk=50"], true, "disk= is Fargate's"),
    ] {
        let (NoRunner::NotOffered(why) | NoRunner::Impossible(why)) =
            sized(labels, arm64).expect_err("nothing");
        assert!(why.contains(want), "{labels:?}: {why}");
    }
    assert!(sized(&["big", "arm64"], true).is_ok());
    assert!(sized(&["gpu", "a100", "disk=50"], true).is_ok());
}

#[test]
fn whom_it_is_for_and_who_overtakes() {
    let at = |name: Option<&str>| Target {
        owner: "Acme".into(),
        repository: name.map(str::to_owned),
        ..Target::default()
    };
    let class =
        &classes(json!([{"name": "a", "labels": ["a"], "repositories": ["acme/r*"], "max_runners": 25,
        "high_priority_repositories": ["acme/release"]}]))
        .classes[0];
    assert!(class.admits(&at(Some("Release"))) && class.admits(&at(None)) && !class.admits(&at(Some("app"))));
    assert!(class.depends_on_repository("acme"));
    assert!(class.is_urgent(&at(Some("release")), &["a"]) && !class.is_urgent(&at(Some("rest")), &["a"]));
    assert!(!class.is_urgent(&at(Some("release")), &["a", "Priority=normal"]));
    assert_eq!((class.max_for(true), class.max_for(false)), (Some(25), Some(22)));
    let open =
        &classes(json!([{"name": "a", "labels": ["a"], "repositories": ["acme/*"], "max_runners": 25}]))
            .classes[0];
    assert!(!open.depends_on_repository("Acme") && open.max_for(false) == Some(25));
    let one = RunnerClass {
        max_runners: Some(1),
        high_priority: class.high_priority.clone(),
        ..RunnerClass::default()
    };
    assert_eq!(one.max_for(false), Some(1), "somebody must be served");
}

/// Documents of up to six classes, whose labels are of eight; those that have mistakes are none.
fn some_classes() -> impl Strategy<Value = Option<Classes>> {
    let labels = subsequence(vec!["fargate", "linux", "a", "b", "c", "d", "e", "f"], 1..4);
    prop::collection::vec(labels, 1..7).prop_map(|rows| {
        let rows: Vec<Value> = rows
            .iter()
            .enumerate()
            .map(|(nth, labels)| json!({"name": format!("class-{nth}"), "labels": labels}))
            .collect();
        read(&json!({"version": 1, "classes": rows}).to_string(), &common()).ok()
    })
}

fn some_labels() -> impl Strategy<Value = Vec<String>> {
    let words = vec![
        "self-hosted",
        "fargate",
        "x64",
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
        "cpu=2",
        "spot",
        "run=7",
        "priority=high",
    ];
    subsequence(words, 0..6).prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

proptest! {
    #[test]
    fn one_class_or_none_whatever_the_order_and_the_case(
        classes in some_classes(),
        (labels, shuffled) in some_labels().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle())),
    ) {
        let Some(classes) = classes else { return Ok(()) };
        let name = |labels: &[String]| classes.route(labels).map(|(class, sizing)| (class.name.clone(), sizing));
        let upper: Vec<String> = shuffled.iter().map(|label| label.to_uppercase()).collect();
        let chosen = name(&labels).ok();
        prop_assert_eq!(&chosen, &name(&shuffled).ok());
        prop_assert_eq!(&chosen, &name(&upper).ok());
        prop_assert_eq!(&chosen, &name(&[labels.join("/")]).ok());
        // The rows in another order are the same document.
        let turned = Classes { classes: classes.classes.iter().rev().cloned().collect(), ..classes.clone() };
        prop_assert_eq!(&chosen, &turned.route(&labels).map(|(class, sizing)| (class.name.clone(), sizing)).ok());
        if let Err(NoRunner::NotOffered(why) | NoRunner::Impossible(why)) = name(&labels) {
            prop_assert!(!why.is_empty());
        }
    }

    /// GitHub's rule: a runner takes a job all of whose labels it has. A runner has exactly the labels of a job.
    #[test]
    fn no_job_is_given_a_runner_of_another_class(
        classes in some_classes(), job in some_labels(), other in some_labels(),
    ) {
        let Some(classes) = classes else { return Ok(()) };
        if let (Ok((mine, _)), Ok((its, _))) = (classes.route(&job), classes.route(&other)) {
            let set = |labels: &[String]| labels.iter().cloned().collect::<BTreeSet<_>>();
            let chooses_none = classes.own(&mine).is_empty();
            if set(&job).is_subset(&set(&other)) && !chooses_none {
                prop_assert_eq!(&mine.name, &its.name);
            }
        }
    }

    /// Whatever is written there, it is read or refused.
    #[test]
    fn nothing_panics(text in "[\\[\\]{}\":,a-z0-9 ]{0,80}", place in 0usize..20, value in "[0-9a-z\\[\\]\"{}:]{0,9}") {
        let _ = read(&text, &common());
        let mut document = whole();
        let value: Value = serde_json::from_str(&value).unwrap_or(Value::Null);
        let class = document["classes"][0].as_object_mut().expect("a class");
        if let Some(field) = class.values_mut().nth(place) {
            *field = value;
        }
        let _ = read(&document.to_string(), &common());
    }
}
