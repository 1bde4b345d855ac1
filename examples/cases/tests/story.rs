//! The story, run as a program, and the estate that it leaves.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use tms_core::estate::{Case, CaseState, Disposition};
use tms_core::rule::task::TaskState;
use tms_core::store::BranchPath;
use tms_tool::office::Office;

/// A directory in memory, where there is one: in the story there are hundreds of calls, and each waits for the disk many times.
fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn cases(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tms-cases"))
        .args(arguments)
        .env_remove("TMS_LOG")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}{error}");
    said.into_owned()
}

/// A table as the program wrote it, its head line first.
fn table(directory: &Path, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(directory.join(format!("{name}.csv"))).unwrap();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(text.as_bytes());
    let rows = reader
        .records()
        .map(|row| row.unwrap().iter().map(str::to_owned).collect());
    rows.collect()
}

/// A column of a table, without its head.
fn column(table: &[Vec<String>], name: &str) -> Vec<String> {
    let at = table[0].iter().position(|column| column == name).unwrap();
    table[1..].iter().map(|row| row[at].clone()).collect()
}

async fn tms(estate: &Path, command: &str) -> String {
    let mut out = Vec::new();
    let estate = estate.to_str().unwrap();
    let arguments = ["tms", "--estate", estate, "--actor", "tester"];
    let arguments = arguments.into_iter().chain(command.split(' '));
    let done = tms_tool::command::run(arguments, &mut out).await;
    assert!(done.is_ok(), "tms {command}: {:#}", done.unwrap_err());
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn all_five_cases_are_told_and_what_is_told_is_in_the_database() {
    let place = place();
    let (dir, csv) = (place.path().join("bank"), place.path().join("reports"));
    let arguments = [
        "--plain",
        "--terminals",
        "10",
        "--dir",
        dir.to_str().unwrap(),
        "--csv",
        csv.to_str().unwrap(),
    ];
    let told = said(&cases(&arguments));
    for number in 1..=5 {
        assert_eq!(told.matches(&format!("\nCase {number}  ")).count(), 1, "{told}");
    }

    // Case 1: by day all wait, and in the night all change, within the window.
    let day = table(&csv, "1-by-day");
    assert_eq!(column(&day, "stands at"), ["waiting"; 10]);
    let night = table(&csv, "1-by-night");
    assert_eq!(column(&night, "stands at"), ["succeeded"; 10]);
    for since in column(&night, "since") {
        let hour: u32 = since[since.len() - 5..since.len() - 3].parse().unwrap();
        assert!((1..5).contains(&hour), "{since}");
    }
    // Case 2: one first, the rest on the next day; no two at one time; all run it.
    let calls = table(&csv, "2-calls");
    let called = column(&calls, "called");
    let days: Vec<&str> = called.iter().map(|moment| &moment[..14]).collect();
    assert!(
        days[1..].iter().all(|day| *day == days[1] && *day != days[0]),
        "{called:?}"
    );
    let versions = table(&csv, "2-versions");
    assert!(column(&versions, "version").iter().all(|version| version == "2.4.0"));
    assert_eq!(column(&versions, "terminals"), column(&versions, "of_model"));
    // Case 3: the terminal that was moved, and no other.
    let risk = table(&csv, "3-cases");
    assert_eq!(column(&risk, "serial"), ["301100003"]);
    assert!(column(&risk, "evidence")[0].contains("+862155507788"));
    // Case 4: the two that were switched off; one that is in the books alone, one that is not in them.
    let mut silent = column(&table(&csv, "4-silent"), "serial");
    silent.sort_unstable();
    assert_eq!(silent, ["257100002", "301100005"]);
    assert_eq!(column(&table(&csv, "4-books"), "outcome"), ["unknown", "missing"]);
    // Case 5: each merchant has what is its own, and keys are known by check value.
    let parameters = table(&csv, "5-parameters");
    assert_eq!(column(&parameters, "scheme"), ["GOLD", "HARBOUR"]);
    assert_eq!(
        column(&parameters, "merchant number"),
        ["898330000000001", "898330000000010"]
    );
    let keys = table(&csv, "5-keys");
    assert_eq!(column(&keys, "usage"), ["D0", "K0", "P0", "D0", "K0", "P0"]);
    assert!(column(&keys, "check value").iter().all(|value| value.len() == 6));

    // The estate says the same, to whoever opens it.
    let office = Office::open(&dir, "tester".to_owned()).await.unwrap();
    let (estate, actor) = (&office.estate, &office.actor);
    let tasks = estate.tasks(actor, &BranchPath::head_office(), 100).await.unwrap();
    assert_eq!(tasks.len(), 4);
    assert!(
        tasks
            .iter()
            .all(|task| task.state == TaskState::Completed && task.approved_by.as_deref() == Some("wang"))
    );
    let ningbo: BranchPath = "/ningbo".parse().unwrap();
    let closed = estate.cases(actor, &ningbo, CaseState::Closed, 10).await.unwrap();
    let [Case { disposition, owner, .. }] = &closed[..] else {
        panic!("{closed:?}")
    };
    assert_eq!(
        (*disposition, owner.as_deref()),
        (Some(Disposition::ConfirmedRelocation), Some("li"))
    );
    assert!(
        estate
            .cases(actor, &ningbo, CaseState::Open, 10)
            .await
            .unwrap()
            .is_empty()
    );
    estate.verify_audit(None).await.unwrap();
    drop(office);

    // Every command that it ends with is one, and shows something.
    let prefix = format!("  tms --estate {} ", dir.display());
    let commands: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
    assert!(commands.len() >= 15, "{told}");
    for command in commands {
        let shown = tms(&dir, command).await;
        assert!(
            shown.lines().count() >= 1 && shown.trim() != "nothing",
            "tms {command}: {shown}"
        );
    }
    let silent = tms(&dir, "report silent --days 30").await;
    assert!(silent.contains("257100002") && silent.contains("301100005"), "{silent}");

    // An estate is not written over.
    let again = cases(&["--plain", "--dir", dir.to_str().unwrap()]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"));
}

#[test]
fn one_case_is_told_alone_and_leaves_nothing_behind() {
    let place = place();
    let output = Command::new(env!("CARGO_BIN_EXE_tms-cases"))
        .args(["--plain", "--case", "5", "--terminals", "10"])
        .env("TMPDIR", place.path())
        .env_remove("TMS_LOG")
        .output()
        .unwrap();
    let told = said(&output);
    assert!(told.contains("\nCase 5  ") && !told.contains("\nCase 1  "), "{told}");
    assert!(told.contains("is removed"), "{told}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn help_says_what_there_is_and_numbers_out_of_range_are_refused() {
    let help = said(&cases(&["--help"]));
    for needed in [
        "--dir",
        "--keep",
        "--terminals",
        "--case",
        "--csv",
        "--plain",
        "--log",
        "Exit status",
    ] {
        assert!(help.contains(needed), "{needed}: {help}");
    }
    for wrong in [["--case", "6"], ["--terminals", "9"], ["--terminals", "501"]] {
        assert_eq!(cases(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}
