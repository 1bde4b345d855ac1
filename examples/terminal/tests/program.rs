//! The program `tms-terminal`, as a stranger meets it: help, and what it says where something is wrong.

use std::fs;
use std::process::{Command, Output};

fn terminal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tms-terminal"))
        .args(arguments)
        .env_remove("TMS_LOG")
        .output()
        .unwrap()
}

#[test]
fn help_is_enough_to_learn_from() {
    let output = terminal(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for needed in [
        "--dir",
        "--server",
        "--once",
        "--trigger",
        "power-on",
        "--cut-after",
        "--unsettled",
        "--busy",
        "--clock",
        "--rate",
        "Exit status",
    ] {
        assert!(help.contains(needed), "{needed} is missing in\n{help}");
    }
}

#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(terminal(&[]).status.code(), Some(2));
    let output = terminal(&["--dir", ".", "--trigger", "boredom"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(2) && said.contains("boredom") && said.contains("transaction-notice"),
        "{said}"
    );
}

#[test]
fn what_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let says = |needed: &str| {
        let output = terminal(&["--dir", path, "--once"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("tms-terminal: ") && said.contains(needed),
            "{needed} is missing in\n{said}"
        );
    };
    says("tms enrol");
    let settings =
        "id = \"0000000000000001\"\nvendor = \"V\"\nmodel = \"M\"\nserial = \"S\"\nserver = \"127.0.0.1:1\"\n";
    fs::write(
        directory.path().join("terminal.toml"),
        settings.replace("0000000000000001", "1"),
    )
    .unwrap();
    says("16 hexadecimal digits");
    fs::write(directory.path().join("terminal.toml"), settings).unwrap();
    says("anchors.tlv");
}
