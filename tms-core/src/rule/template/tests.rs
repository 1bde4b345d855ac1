use super::*;
use proptest::prelude::*;
use tms_proto::digest::Digest;
use tms_proto::tlv::Structure;
use zeroize::Zeroizing;

fn plain(text: &str) -> Value {
    Value::Plain(text.to_owned())
}

fn sealed(value: &str, nonce: u8) -> Value {
    Value::Sealed(Sealed {
        key: 1,
        sealed: format!("{nonce}:{value}"),
        fingerprint: Digest::of(value.as_bytes()),
    })
}

fn definition(name: &str, kind: Kind) -> Definition {
    Definition {
        name: name.to_owned(),
        label: String::new(),
        kind,
        default: None,
        required: false,
        narrowest: None,
        on_site: Response::Report,
    }
}

fn template() -> Template {
    let text = Kind::Text {
        min: 0,
        max: 40,
        charset: Charset::Unicode,
    };
    Template {
        name: "pay".to_owned(),
        version: 3,
        definitions: vec![
            Definition {
                required: true,
                on_site: Response::Restore,
                ..definition("host", Kind::Endpoint)
            },
            Definition {
                default: Some("${merchant.name}".to_owned()),
                on_site: Response::Accept,
                ..definition("header", text)
            },
            Definition {
                narrowest: Some(Level::Branch),
                ..definition(
                    "limit",
                    Kind::Amount {
                        max: 500_000,
                        decimals: 2,
                    },
                )
            },
            definition("password", Kind::Secret),
            definition("dial", Kind::Telephone),
        ],
    }
}

fn layer(scope: Scope, values: &[(&str, Value)], variables: &[(&str, &str)]) -> Layer {
    Layer {
        scope,
        version: 1,
        values: values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        variables: variables
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect(),
    }
}

fn branch(path: &[&str]) -> Scope {
    Scope::Branch(path.iter().map(|part| (*part).to_owned()).collect())
}

fn terminal() -> Context {
    Context {
        branch: vec!["east".to_owned(), "shanghai".to_owned()],
        vendor: "PAX".to_owned(),
        model: "P80".to_owned(),
        merchant: Some("898310000000001".to_owned()),
        terminal: TerminalId(7),
        facts: [("merchant.name".to_owned(), "Tea House".to_owned())].into(),
    }
}

fn layers() -> Vec<Layer> {
    vec![
        layer(
            Scope::head_office(),
            &[
                ("host", plain("${region}.example.com:9000")),
                ("password", sealed("0000", 1)),
                ("limit", plain("50")),
            ],
            &[("region", "head")],
        ),
        layer(branch(&["east"]), &[("limit", plain("100.5"))], &[("region", "east")]),
        layer(branch(&["west"]), &[("limit", plain("9"))], &[("region", "west")]),
        layer(
            Scope::Model {
                vendor: "PAX".to_owned(),
                model: "P80".to_owned(),
            },
            &[("dial", plain("9,5555 0123"))],
            &[],
        ),
        layer(Scope::Terminal(TerminalId(7)), &[("header", plain("Tea House 2"))], &[]),
    ]
}

#[test]
fn narrower_layers_win_and_are_named() {
    let rendering = render(&template(), &layers(), &terminal()).unwrap();
    let shown = |name: &str| (&rendering.values[name].value, &rendering.values[name].from);
    let model = layers()[3].scope.clone();
    assert_eq!(
        shown("host"),
        (&plain("east.example.com:9000"), &Origin::Layer(Scope::head_office()))
    );
    assert_eq!(shown("limit"), (&plain("10050"), &Origin::Layer(branch(&["east"]))));
    assert_eq!(shown("dial"), (&plain("9,55550123"), &Origin::Layer(model)));
    assert_eq!(
        shown("header"),
        (&plain("Tea House 2"), &Origin::Layer(Scope::Terminal(TerminalId(7))))
    );
    assert_eq!(rendering.values["limit"].hides, [Origin::Layer(Scope::head_office())]);
    assert_eq!(rendering.values["header"].hides, [Origin::Default]);
    assert_eq!(rendering.values["host"].used, ["region"]);
    assert_eq!(rendering.pins.template, 3);
    assert_eq!(rendering.pins.layers.len(), 4);
    // What strictness an edit on site meets, known and unknown.
    assert_eq!(rendering.on_site(None), Response::Restore);
    assert_eq!(rendering.on_site(Some(&["header".to_owned()])), Response::Accept);
    assert_eq!(template().on_site(), Response::Restore);
}

#[test]
fn all_faults_are_told_with_their_layers() {
    let bad = [
        layer(
            Scope::head_office(),
            &[
                ("host", plain("${nowhere}:1")),
                ("password", plain("1234")),
                ("old", plain("")),
            ],
            &[],
        ),
        layer(branch(&["east"]), &[("dial", plain("call me"))], &[]),
        layer(
            Scope::Terminal(TerminalId(7)),
            &[("limit", plain("1")), ("header", sealed("x", 1))],
            &[],
        ),
    ];
    let faults = render(&template(), &bad, &terminal()).unwrap_err();
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "host: undefined variable: nowhere",
            "header: sealed, though it is no secret",
            "limit: set by a layer that may not set it",
            "password: a secret in the clear",
            "dial: not in the form of its kind",
        ]
    );
    assert_eq!(faults[4].from, Some(Origin::Layer(branch(&["east"]))));
    // The same where a layer is written; what is not known before is let through.
    let kinds =
        |layer: &Layer| -> Vec<FaultKind> { template().faults(layer).into_iter().map(|fault| fault.kind).collect() };
    assert_eq!(
        kinds(&bad[0]),
        [FaultKind::NotDefined, FaultKind::Value(ValueError::Clear)]
    );
    assert_eq!(kinds(&bad[1]), [FaultKind::Value(ValueError::Form)]);
    assert_eq!(
        kinds(&bad[2]),
        [FaultKind::Value(ValueError::NotSecret), FaultKind::TooNarrow]
    );
    assert_eq!(
        render(&template(), &[], &terminal()).unwrap_err()[0].kind,
        FaultKind::Missing
    );
    let twice = [layers()[0].clone(), layers()[0].clone()];
    assert_eq!(
        render(&template(), &twice, &terminal()).unwrap_err()[0].kind,
        FaultKind::Twice
    );
}

#[test]
fn secrets_are_never_shown() {
    let mut after = layers();
    after[0].values.insert("password".to_owned(), sealed("9999", 2));
    let (before, after) = (
        render(&template(), &layers(), &terminal()).unwrap(),
        render(&template(), &after, &terminal()).unwrap(),
    );
    let differences = diff(&before, &after);
    assert_eq!(
        differences,
        [Difference {
            parameter: "password".to_owned(),
            before: Some(Shown::Secret),
            after: Some(Shown::Secret)
        }]
    );
    assert_ne!(before.digest(), after.digest());
    for text in [format!("{before:?}{after:?}"), format!("{differences:?}")] {
        assert!(!text.contains("0000") && !text.contains("9999"), "{text}");
    }
    // Sealed again with another nonce, it is the same.
    let mut again = layers();
    again[0].values.insert("password".to_owned(), sealed("0000", 77));
    let again = render(&template(), &again, &terminal()).unwrap();
    assert_eq!((diff(&before, &again), before.digest()), (Vec::new(), again.digest()));
}

#[test]
fn a_terminal_gets_what_was_rendered() {
    let rendering = render(&template(), &layers(), &terminal()).unwrap();
    let open =
        |_: &str, sealed: &Sealed| Ok::<_, ()>(Zeroizing::new(sealed.sealed.split_once(':').unwrap().1.to_owned()));
    let (encoded, digest) = Document::encode(&rendering, open).unwrap();
    let document = Document::decode(&encoded).unwrap();
    assert_eq!(digest, Digest::of(&document.to_vec()));
    let values: Vec<(&str, &str)> = document
        .parameters
        .iter()
        .map(|p| (p.name.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(
        values,
        [
            ("dial", "9,55550123"),
            ("header", "Tea House 2"),
            ("host", "east.example.com:9000"),
            ("limit", "10050"),
            ("password", "0000"),
        ]
    );
    assert!(!format!("{document:?}").contains("0000"));
    assert_eq!(
        Document::encode(&rendering, |_, _| Err("no key")).unwrap_err(),
        "no key"
    );
}

#[test]
fn an_edit_says_whom_it_changes() {
    let all = layers();
    let edited = layer(branch(&["east"]), &[("limit", plain("200"))], &[("region", "east")]);
    let edit = Edit {
        scope: &edited.scope,
        before: all.get(1),
        after: Some(&edited),
    };
    let elsewhere = Context {
        branch: vec!["west".to_owned()],
        ..terminal()
    };
    assert!(edit.may_change(&terminal()) && !edit.may_change(&elsewhere));
    let changes = edit.changes(&template(), &all, &terminal()).unwrap();
    assert_eq!(
        changes,
        [Difference {
            parameter: "limit".to_owned(),
            before: Some(Shown::Text("10050".to_owned())),
            after: Some(Shown::Text("20000".to_owned())),
        }]
    );
    // A variable alone is a change too, of the value that takes it.
    let renamed = layer(branch(&["east"]), &[("limit", plain("100.5"))], &[("region", "south")]);
    let by_variable = Edit {
        after: Some(&renamed),
        ..edit
    };
    let changes = by_variable.changes(&template(), &all, &terminal()).unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].parameter, "host");
    // A narrower layer hides the change.
    let mut hidden = all.clone();
    hidden.push(layer(branch(&["east", "shanghai"]), &[("limit", plain("7"))], &[]));
    assert_eq!(edit.changes(&template(), &hidden, &terminal()), Ok(Vec::new()));
    // An edit that would leave a terminal without parameters says so.
    let broken = layer(Scope::head_office(), &[], &[]);
    let edit = Edit {
        scope: &broken.scope,
        before: all.first(),
        after: Some(&broken),
    };
    assert!(matches!(
        edit.changes(&template(), &all, &terminal()),
        Err(Uncertain::After(_))
    ));
}

#[test]
fn templates_and_layers_are_checked() {
    assert_eq!(template().check(), Ok(()));
    let with = |definition: Definition| {
        let mut template = template();
        template.definitions.push(definition);
        template.check()
    };
    assert_eq!(
        with(definition("host", Kind::Date)),
        Err(TemplateError::Twice("host".to_owned()))
    );
    assert_eq!(
        with(definition("a b", Kind::Date)),
        Err(TemplateError::Name("a b".to_owned()))
    );
    let wrong = |error| {
        Err(TemplateError::Definition {
            name: "x".to_owned(),
            error,
        })
    };
    assert_eq!(
        with(definition("x", Kind::Integer { min: 2, max: 1 })),
        wrong(ValueError::Definition)
    );
    let default = Some("tomorrow".to_owned());
    assert_eq!(
        with(Definition {
            default: default.clone(),
            ..definition("x", Kind::Date)
        }),
        wrong(ValueError::Form)
    );
    assert_eq!(
        with(Definition {
            default,
            ..definition("x", Kind::Secret)
        }),
        wrong(ValueError::Clear)
    );
    assert_eq!(
        layer(Scope::head_office(), &[("x", plain(&"x".repeat(MAX_VALUE + 1)))], &[]).check(),
        Err(TemplateError::Long("x".to_owned()))
    );
    assert_eq!(
        layer(Scope::Branch(vec![String::new(); 17]), &[], &[]).check(),
        Err(TemplateError::Large)
    );
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        proptest::collection::vec("[ab]", 0..3).prop_map(Scope::Branch),
        "[ab]".prop_map(Scope::Vendor),
        ("[ab]", "[ab]").prop_map(|(vendor, model)| Scope::Model { vendor, model }),
        "[ab]".prop_map(Scope::Merchant),
        (0..2u64).prop_map(|id| Scope::Terminal(TerminalId(id))),
    ]
}

fn some_layer() -> impl Strategy<Value = Layer> {
    let value = prop_oneof![
        "(\\$\\{[xyz]\\}|[pq]){0,3}".prop_map(Value::Plain),
        ("[01]", 0..3u8).prop_map(|(value, nonce)| sealed(&value, nonce))
    ];
    let values = proptest::collection::btree_map("[mnst]", value, 0..4);
    let variables = proptest::collection::btree_map("[xyz]", "(\\$\\{[xyz]\\}|[pq]){0,2}", 0..3);
    (scopes(), values, variables).prop_map(|(scope, values, variables)| Layer {
        scope,
        version: 1,
        values,
        variables,
    })
}

prop_compose! {
    fn contexts()(branch in proptest::collection::vec("[ab]", 0..3), vendor in "[ab]", model in "[ab]",
                  merchant in proptest::option::of("[ab]"), id in 0..2u64) -> Context {
        Context { branch, vendor, model, merchant, terminal: TerminalId(id), facts: BTreeMap::new() }
    }
}

fn small() -> Template {
    let text = Kind::Text {
        min: 0,
        max: 9,
        charset: Charset::Ascii,
    };
    Template {
        name: "t".to_owned(),
        version: 1,
        definitions: vec![
            definition("m", text.clone()),
            definition("n", text),
            definition("s", Kind::Secret),
        ],
    }
}

proptest! {
    #[test]
    fn the_order_of_layers_does_not_matter(layers in proptest::collection::vec(some_layer(), 0..6), terminal in contexts()) {
        let mut reversed = layers.clone();
        reversed.reverse();
        let (one, other) = (render(&small(), &layers, &terminal), render(&small(), &reversed, &terminal));
        match (one, other) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (one, other) => prop_assert_eq!(one.is_err(), other.is_err()),
        }
    }

    #[test]
    fn renderings_differ_where_their_digests_do(
        one in proptest::collection::vec(some_layer(), 0..4), other in proptest::collection::vec(some_layer(), 0..4), terminal in contexts()
    ) {
        if let (Ok(one), Ok(other)) = (render(&small(), &one, &terminal), render(&small(), &other, &terminal)) {
            let differences = diff(&one, &other);
            prop_assert_eq!(differences.is_empty(), one.digest() == other.digest());
            prop_assert_eq!(differences.len(), diff(&other, &one).len());
            let open = |_: &str, sealed: &Sealed| Ok::<_, ()>(Zeroizing::new(sealed.fingerprint.to_string()));
            let digests = [&one, &other].map(|rendering| Document::encode(rendering, open).unwrap().1);
            prop_assert_eq!(differences.is_empty(), digests[0] == digests[1]);
        }
    }

    #[test]
    fn an_edit_changes_none_but_those_that_it_names(
        layers in proptest::collection::vec(some_layer(), 0..4), before in some_layer(), after in some_layer(), terminal in contexts()
    ) {
        let after = Layer { scope: before.scope.clone(), ..after };
        let edit = Edit { scope: &before.scope, before: Some(&before), after: Some(&after) };
        let others: Vec<Layer> = layers.into_iter().filter(|layer| layer.scope != before.scope).collect();
        let with = |layer: &Layer| {
            let all: Vec<Layer> = others.iter().chain([layer]).cloned().collect();
            render(&small(), &all, &terminal)
        };
        if let (Ok(old), Ok(new)) = (with(&before), with(&after)) {
            let differences = diff(&old, &new);
            prop_assert!(differences.is_empty() || edit.may_change(&terminal));
            prop_assert_eq!(edit.changes(&small(), &others, &terminal), Ok(differences));
        }
    }
}
