use super::*;
use proptest::prelude::*;

fn holder(model: &str, serial: &str) -> Holder {
    let vendor = if model == "P80" { "PAX" } else { "Verifone" };
    Holder {
        vendor: vendor.to_owned(),
        model: model.to_owned(),
        serial: serial.to_owned(),
    }
}

fn known(id: u64, model: &str, serial: &str, branch: &str) -> Known {
    Known {
        terminal: TerminalId(id),
        holder: holder(model, serial),
        branch: branch.split('/').map(str::to_owned).collect(),
        merchant: Some("898000000000001".to_owned()),
    }
}

fn estate() -> Vec<Known> {
    vec![
        known(1, "P80", "30010001", "east/shanghai"),
        known(2, "P80", "30010002", "east/shanghai"),
        known(3, "Vx510", "500100", "west"),
        known(4, "Vx510", "500101", "west"),
    ]
}

fn run(text: &[u8], columns: &Columns) -> Result<(Vec<Finding>, Totals), ListError> {
    let aliases = Aliases::known();
    let list = List::new(text, columns, &aliases)?;
    let mut findings = Vec::new();
    let look_up = |holder: &Holder| estate().into_iter().find(|known| known.holder == *holder);
    let totals = reconcile(list, look_up, estate(), |finding| findings.push(finding))?;
    Ok((findings, totals))
}

#[test]
fn a_list_is_reconciled() {
    let text = "\u{feff}No.,厂商,型号,Serial No.,所属机构,商户号\r\n\
        1,百富,p-80,3001-0001,east/shanghai,898000000000001\r\n\
        2,PAX,百富P80,S/N: 30010002, west ,\r\n\
        3,惠尔丰,VX 510,500100,,898000000000009\r\n\
        4,PAX,P80,30010001,west,\r\n\
        5,PAX,P80,99999999,east,\r\n\
        6,PAX,P80\r\n\
        \r\n\
        7,PAX,P80,***,,\r\n";
    let (findings, totals) = run(text.as_bytes(), &Columns::default()).unwrap();
    let outcomes: Vec<(Option<u64>, Option<u64>, Outcome)> = findings
        .into_iter()
        .map(|finding| (finding.line, finding.terminal.map(|id| id.0), finding.outcome))
        .collect();
    let malformed = |reason: &str| Outcome::Malformed {
        reason: reason.to_owned(),
    };
    let moved = |branch: Option<&str>, merchant: Option<&str>| Outcome::Moved {
        branch: branch.map(|branch| vec![branch.to_owned()]),
        merchant: merchant.map(str::to_owned),
    };
    assert_eq!(
        outcomes,
        [
            (Some(2), Some(1), Outcome::Matched),
            (Some(3), Some(2), moved(Some("west"), None)),
            (Some(4), Some(3), moved(None, Some("898000000000009"))),
            (Some(5), Some(1), Outcome::Duplicate { first: 2 }),
            (Some(6), None, Outcome::Unknown),
            (Some(7), None, malformed("3 fields where the header has 6")),
            (
                Some(9),
                None,
                malformed("serial number has a character that it cannot have: '*'")
            ),
            (None, Some(4), Outcome::Missing),
        ]
    );
    let expected = Totals {
        lines: 7,
        matched: 1,
        moved: 2,
        unknown: 1,
        missing: 1,
        duplicate: 1,
        malformed: 2,
    };
    assert_eq!(totals, expected);
}

#[test]
fn what_is_no_list_is_refused() {
    let error = |text: &[u8]| run(text, &Columns::default()).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error(b""), "no column for the vendor");
    assert_eq!(error(b"vendor,model\nPAX,P80\n"), "no column for the serial number");
    // A quote that is never closed takes in no more than a line may have.
    let mut endless = b"vendor,model,serial\nPAX,P80,\"".to_vec();
    endless.resize(10_000_000, b'x');
    assert_eq!(error(&endless), "reading failed: a line is longer than 64 KiB");
    let latin = run(
        b"vendor;model;serial\nPAX;P80;\xff\nPAX;P80;1\n",
        &Columns {
            delimiter: b';',
            ..Columns::default()
        },
    );
    let (findings, _) = latin.unwrap();
    assert_eq!(
        findings[0].outcome,
        Outcome::Malformed {
            reason: "not UTF-8".to_owned()
        }
    );
    assert_eq!((findings[1].line, &findings[1].outcome), (Some(3), &Outcome::Unknown));
}

proptest! {
    #[test]
    fn each_line_and_each_terminal_is_counted_once(
        lines in proptest::collection::vec(prop_oneof![
            (0..8u64).prop_map(|n| format!("PAX,P80,3001000{n},east/shanghai")),
            (0..4u64).prop_map(|n| format!("VFI,vx510,50010{n},\"we\"\"st\n\"")),
            "[a-z]{1,3}(,[0-9]{0,3}){0,3}",
        ], 0..40),
    ) {
        let text = format!("vendor,model,serial,branch\n{}\n", lines.join("\n"));
        let (findings, totals) = run(text.as_bytes(), &Columns::default()).unwrap();
        prop_assert_eq!(totals.lines, u64::try_from(lines.len()).unwrap());
        let of_lines = totals.matched + totals.moved + totals.unknown + totals.duplicate + totals.malformed;
        prop_assert_eq!(of_lines, totals.lines);
        let first = |finding: &&Finding| !matches!(finding.outcome, Outcome::Duplicate { .. });
        let mut terminals: Vec<_> = findings.iter().filter(first).filter_map(|finding| finding.terminal).collect();
        terminals.sort_unstable();
        prop_assert_eq!(terminals, estate().iter().map(|known| known.terminal).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_ends(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut text = b"vendor,model,serial\n".to_vec();
        text.extend(bytes);
        if let Ok((findings, totals)) = run(&text, &Columns::default()) {
            prop_assert_eq!(u64::try_from(findings.len()).unwrap(), totals.lines + totals.missing);
        }
    }
}
