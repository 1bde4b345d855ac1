//! Templates and layers: written in versions, rendered for terminals, and never a secret shown.

use crate::install::limited;
use crate::world::{World, holder, operator};
use std::collections::BTreeMap;
use std::sync::Arc;
use tms_core::custody::ParameterKey;
use tms_core::entropy::OsEntropy;
use tms_core::estate::{
    Act, Actor, Branch, Enrolment, Estate, EstateError, LayerDraft, Merchant, ParameterError, Permission, Relation,
    Site,
};
use tms_core::rule::template::{Charset, Definition, Document, FaultKind, Kind, Level, Origin, Scope, Shown, Template};
use tms_core::store::{BranchPath, Caller, Change, Document as Stored, Expect, Query, Record, TerminalId, Versioned};
use tms_proto::digest::Digest;
use tms_proto::secret::Secret;
use zeroize::Zeroizing;

fn path(text: &str) -> BranchPath {
    text.parse().unwrap()
}

fn definition(name: &str, kind: Kind, default: Option<&str>) -> Definition {
    Definition {
        name: name.to_owned(),
        label: String::new(),
        kind,
        default: default.map(str::to_owned),
        required: false,
        narrowest: None,
        on_site: Default::default(),
    }
}

fn text() -> Kind {
    Kind::Text {
        min: 1,
        max: 60,
        charset: Charset::Unicode,
    }
}

/// What the terminals of this file get.
fn template() -> Template {
    Template {
        name: "pay".to_owned(),
        version: 0,
        definitions: vec![
            definition("header", text(), Some("${merchant.name}")),
            definition("host", Kind::Endpoint, Some("tms.example.com:9000")),
            definition("number", text(), Some("${terminal.number}")),
            definition("password", Kind::Secret, None),
            Definition {
                narrowest: Some(Level::Branch),
                ..definition("region", text(), Some("${branch.region} ${site.address}"))
            },
        ],
    }
}

fn draft(scope: Scope, values: &[(&str, &str)]) -> LayerDraft {
    let values = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some(Zeroizing::new((*value).to_owned()))));
    LayerDraft {
        scope,
        version: 0,
        values: values.collect(),
        variables: BTreeMap::new(),
    }
}

fn branch(names: &[&str]) -> Scope {
    Scope::Branch(names.iter().map(|name| (*name).to_owned()).collect())
}

struct Setting {
    world: World,
    estate: Estate,
    east: Vec<TerminalId>,
    west: TerminalId,
}

/// Branches, a merchant with a site, and terminals in each branch; the first in the east stands at the merchant's.
async fn setting() -> Setting {
    let world = World::new().await;
    let key = ParameterKey::new(&Secret::new([7; 32]), Arc::new(OsEntropy));
    let estate = world.estate.clone().with_secrets(Arc::new(key));
    for at in ["/east", "/east/harbour", "/west"] {
        let branch = Branch {
            path: path(at),
            name: at.to_owned(),
            zone: None,
            variables: [("region".to_owned(), format!("region {at}"))].into(),
        };
        estate.put_branch(&operator(), branch).await.unwrap();
    }
    let mut terminals = Vec::new();
    for (serial, at) in [
        ("1", "/east/harbour"),
        ("2", "/east"),
        ("3", "/east/harbour"),
        ("4", "/west"),
    ] {
        let enrolment = Enrolment {
            branch: path(at),
            ..Enrolment::of(holder(serial))
        };
        terminals.push(estate.enrol(&operator(), enrolment).await.unwrap());
    }
    let at = path("/east/harbour");
    let merchant = Merchant {
        number: "100".to_owned(),
        branch: at.clone(),
        name: "Tea $ House".to_owned(),
        category: None,
        variables: BTreeMap::new(),
    };
    estate.put_merchant(&operator(), merchant).await.unwrap();
    let site = Site {
        id: "s1".to_owned(),
        merchant: "100".to_owned(),
        branch: at.clone(),
        address: "Quay 7".to_owned(),
        zone: None,
    };
    estate.put_site(&operator(), site).await.unwrap();
    for id in &terminals {
        let logical = format!("100:{id}");
        for (relation, object) in [
            (Relation::Device, id.to_string()),
            (Relation::Merchant, "100".to_owned()),
            (Relation::Site, "s1".to_owned()),
        ] {
            // Those of other branches belong to it too: the roster does not say so.
            estate
                .bind(&operator(), relation, (&logical, &object), &at, "installed")
                .await
                .unwrap();
        }
    }
    assert_eq!(estate.put_template(&operator(), template()).await.unwrap(), 1);
    let west = terminals.pop().unwrap();
    Setting {
        world,
        estate,
        east: terminals,
        west,
    }
}

async fn values(estate: &Estate, id: TerminalId) -> BTreeMap<String, (Shown, Origin)> {
    let preview = estate.preview(&operator(), &Caller::Id(id), "pay", None).await.unwrap();
    let lines = preview.parameters.into_iter();
    lines.map(|line| (line.name, (line.value, line.from))).collect()
}

#[tokio::test]
async fn values_come_from_the_narrowest_layer_and_from_facts() {
    let Setting { estate, east, west, .. } = setting().await;
    for (scope, host) in [
        (Scope::head_office(), "head:1"),
        (branch(&["east"]), "east:1"),
        (branch(&["east", "harbour"]), "harbour:1"),
        (Scope::Vendor("PAX".into()), "vendor:1"),
    ] {
        estate
            .put_layer(&operator(), "pay", &draft(scope, &[("host", host)]))
            .await
            .unwrap();
    }
    let terminal = draft(Scope::Terminal(east[0]), &[("host", "mine:1"), ("password", "4711")]);
    estate.put_layer(&operator(), "pay", &terminal).await.unwrap();

    let mine = values(&estate, east[0]).await;
    let value = |name: &str| mine[name].clone();
    let text = |text: &str| Shown::Text(text.to_owned());
    assert_eq!(value("host"), (text("mine:1"), Origin::Layer(Scope::Terminal(east[0]))));
    assert_eq!(value("header"), (text("Tea $ House"), Origin::Default));
    assert_eq!(value("number").0, text(&east[0].to_string()));
    assert_eq!(value("region").0, text("region /east/harbour Quay 7"));
    assert_eq!(value("password").0, Shown::Secret);
    // What is set for a vendor is narrower than what a branch sets.
    assert_eq!(
        values(&estate, west).await["host"].1,
        Origin::Layer(Scope::Vendor("PAX".into()))
    );
    assert!(!values(&estate, west).await.contains_key("password"));
}

#[tokio::test]
async fn versions_never_change_and_pins_bring_the_old_bytes_back() {
    let Setting {
        world, estate, east, ..
    } = setting().await;
    let caller = Caller::Id(east[0]);
    let put = async |values: &[(&str, &str)]| {
        let draft = draft(branch(&["east"]), values);
        estate.put_layer(&operator(), "pay", &draft).await.unwrap()
    };
    assert_eq!(put(&[("host", "a:1"), ("password", "4711")]).await, 1);
    let parameters = estate.parameters();
    let first = parameters.prepare(east[0], "pay", None).await.unwrap();
    let bytes = parameters.document(&first).await.unwrap();
    assert_eq!((Digest::of(&bytes), bytes.len() as u64), (first.digest, first.size));
    let document = Document::decode(&bytes).unwrap();
    let value = |name: &str| {
        document
            .parameters
            .iter()
            .find(|p| p.name == name)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(
        (value("host"), value("password")),
        ("a:1".to_owned(), "4711".to_owned())
    );

    // The same is no new version; another one is.
    assert_eq!(put(&[("host", "a:1"), ("password", "4711")]).await, 1);
    assert_eq!(put(&[("host", "b:2"), ("password", "4711")]).await, 2);
    let mut newer = template();
    newer.definitions[0].default = Some("hello".to_owned());
    assert_eq!(estate.put_template(&operator(), newer).await.unwrap(), 2);
    assert_eq!(estate.template(&operator(), "pay", None).await.unwrap().version, 2);
    assert_eq!(
        estate.template(&operator(), "pay", Some(1)).await.unwrap().definitions,
        template().definitions
    );

    // Names of merchants change too: what was pinned stays.
    let mut merchant = estate.merchant(&operator(), "100").await.unwrap();
    merchant.name = "Coffee House".to_owned();
    estate.put_merchant(&operator(), merchant).await.unwrap();
    assert_eq!(parameters.document(&first).await.unwrap(), bytes);
    // What an assignment keeps of it survives being written, and has no secret in it.
    let written = serde_json::to_string(&first).unwrap();
    assert!(!written.contains("4711"));
    assert_eq!(
        serde_json::from_str::<tms_core::estate::ParameterSetRef>(&written).unwrap(),
        first
    );

    let second = parameters.prepare(east[0], "pay", None).await.unwrap();
    assert_ne!(second.digest, first.digest);
    let pinned = parameters.prepare_pinned(east[0], "pay", &second.pins).await.unwrap();
    assert_eq!(pinned, second);
    let changes = estate
        .difference(&operator(), &caller, "pay", &first.pins, &second.pins)
        .await
        .unwrap();
    let names: Vec<_> = changes.iter().map(|change| change.parameter.as_str()).collect();
    assert_eq!(names, ["header", "host"]);

    // Somebody changes what is stored: it is not sent.
    let query = Query::Documents {
        kind: tms_core::store::Kind::named("layer"),
        prefix: String::new(),
        after: None,
    };
    let tampered: Vec<Change> = world
        .store
        .list(&query, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|found| match found.record {
            Record::Document(document) => {
                let body = document.body.replace("a:1", "c:3");
                Change::Put(Expect::Any, Stored { body, ..*document }.into())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    world.store.commit(tampered).await.unwrap();
    let error = parameters.document(&first).await.unwrap_err();
    assert!(matches!(error, ParameterError::Changed(_)), "{error}");
}

#[tokio::test]
async fn secrets_are_sealed_at_rest_and_shown_nowhere() {
    let Setting {
        world, estate, east, ..
    } = setting().await;
    let scope = branch(&["east"]);
    let secret = draft(scope.clone(), &[("password", "s3cr3t-4711")]);
    estate.put_layer(&operator(), "pay", &secret).await.unwrap();
    // It can be kept without being known.
    let mut keep = draft(scope.clone(), &[("host", "a:1")]);
    keep.values.insert("password".to_owned(), None);
    assert_eq!(estate.put_layer(&operator(), "pay", &keep).await.unwrap(), 2);
    let set = estate.parameters().prepare(east[0], "pay", None).await.unwrap();
    let bytes = estate.parameters().document(&set).await.unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("s3cr3t-4711"));
    let preview = estate
        .preview(&operator(), &Caller::Id(east[0]), "pay", None)
        .await
        .unwrap();
    let view = estate.layer(&operator(), "pay", &scope, None).await.unwrap();
    assert_eq!(view.values["password"], Shown::Secret);
    let affected = estate.affected(&operator(), "pay", &secret, None, 10).await.unwrap();
    let audit = estate.audit(&operator(), 0, 100).await.unwrap();
    let shown = format!(
        "{secret:?}{preview:?}{view:?}{audit:?}{set:?}{affected:?}{}{}",
        serde_json::to_string(&preview).unwrap(),
        serde_json::to_string(&view).unwrap()
    );
    assert!(!shown.contains("s3cr3t") && !shown.contains("4711"), "{shown}");
    for kind in ["template", "layer", "audit"] {
        let query = Query::Documents {
            kind: tms_core::store::Kind::named(kind),
            prefix: String::new(),
            after: None,
        };
        for found in world.store.list(&query, 100).await.unwrap() {
            let Record::Document(document) = found.record else {
                panic!()
            };
            assert!(!document.body.contains("s3cr3t"), "{kind}");
        }
    }
    // Without the key, and with another, nothing is made of it.
    let without = world.estate.parameters();
    assert!(matches!(without.document(&set).await, Err(ParameterError::NoKey)));
    let refused = world.estate.put_layer(&operator(), "pay", &secret).await;
    assert!(matches!(refused, Err(EstateError::Parameters(ParameterError::NoKey))));
    let other = ParameterKey::new(&Secret::new([8; 32]), Arc::new(OsEntropy));
    let other = world.estate.clone().with_secrets(Arc::new(other)).parameters();
    assert!(matches!(other.document(&set).await, Err(ParameterError::Custody(_))));
}

/// All layers that are kept, as they stand in the store.
async fn layers(world: &World) -> Vec<String> {
    let query = Query::Documents {
        kind: tms_core::store::Kind::named("layer"),
        prefix: String::new(),
        after: None,
    };
    let page = world.store.list(&query, 100).await.unwrap().into_iter();
    let body = |found: Versioned<Record>| match found.record {
        Record::Document(document) => document.body,
        other => panic!("{other:?}"),
    };
    page.map(body).collect()
}

#[tokio::test]
async fn two_operators_go_over_to_another_key_and_terminals_see_nothing_of_it() {
    let Setting { world, east, .. } = setting().await;
    let key = |byte| ParameterKey::new(&Secret::new([byte; 32]), Arc::new(OsEntropy));
    let second = Secret::new([8; 32]);
    let estate = world
        .estate
        .clone()
        .with_secrets(Arc::new(key(7).with_version(2, &second)));
    let write = async |password: &str| {
        let layer = draft(Scope::head_office(), &[("password", password)]);
        estate.put_layer(&operator(), "pay", &layer).await.unwrap()
    };
    let first = write("s3cr3t-1").await;
    let pinned = estate.parameters().prepare(east[0], "pay", None).await.unwrap();
    assert_eq!((first, write("s3cr3t-2").await), (1, 2));
    assert_eq!(estate.parameter_key().await.unwrap().version, 1);

    let change = |version| Act::ChangeParameterKey { version };
    // Whoever has no such key cannot seal by it.
    let unknown = estate.propose(&operator(), change(3), "rotation").await.unwrap_err();
    assert!(matches!(unknown, EstateError::Unknown(..)), "{unknown}");
    let proposal = estate.propose(&operator(), change(2), "rotation").await.unwrap();
    let alone = estate.approve(&operator(), &proposal.id).await.unwrap_err();
    assert!(matches!(alone, EstateError::SecondOperator), "{alone}");
    assert_eq!(estate.advance_parameter_key(1).await.unwrap(), 0);
    estate.approve(&Actor::trusted("wang"), &proposal.id).await.unwrap();

    // What is written from now on is sealed by the new one, and the same is still the same.
    assert!(layers(&world).await.iter().all(|layer| !layer.contains("\"key\":2")));
    assert_eq!(write("s3cr3t-2").await, 2);
    let kept = LayerDraft {
        values: [
            ("password".to_owned(), None),
            ("header".to_owned(), Some("A".to_owned().into())),
        ]
        .into(),
        ..draft(Scope::head_office(), &[])
    };
    assert_eq!(estate.put_layer(&operator(), "pay", &kept).await.unwrap(), 3);
    let sealed = async |world: &World| {
        let layers = layers(world).await;
        let secret = layers.iter().filter(|layer| layer.contains("sealed"));
        let secret: Vec<_> = secret.map(|layer| layer.contains("\"key\":2")).collect();
        secret
    };
    let now = sealed(&world).await;
    assert_eq!((now.len(), now.iter().filter(|new| **new).count()), (3, 1));
    // A terminal that is to get what was pinned gets it meanwhile, and behind it.
    let before = estate.parameters().document(&pinned).await.unwrap();
    while estate.advance_parameter_key(1).await.unwrap() > 0 {
        assert_eq!(estate.parameters().document(&pinned).await.unwrap(), before);
    }
    assert!(sealed(&world).await.iter().all(|new| *new));
    let standing = estate.parameter_key().await.unwrap();
    assert_eq!((standing.version, standing.sealing, standing.sealed), (2, false, 2));

    // Then the old key may go: the new one alone opens everything.
    let alone = key(9).with_version(2, &second);
    let old_gone = world.estate.clone().with_secrets(Arc::new(alone));
    assert_eq!(old_gone.parameters().document(&pinned).await.unwrap(), before);
    let newest = old_gone.parameters().prepare(east[0], "pay", None).await.unwrap();
    let document = old_gone.parameters().document(&newest).await.unwrap();
    assert!(String::from_utf8_lossy(&document).contains("s3cr3t-2"));
    let new_gone = world.estate.clone().with_secrets(Arc::new(key(7))).parameters();
    assert!(matches!(
        new_gone.document(&pinned).await,
        Err(ParameterError::Custody(_))
    ));
    estate.verify_audit(None).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_says_where() {
    let Setting { estate, east, .. } = setting().await;
    let faults = |outcome: Result<u32, EstateError>| match outcome {
        Err(EstateError::Parameters(ParameterError::Faults(faults))) => faults,
        other => panic!("{other:?}"),
    };
    let scope = Scope::Terminal(east[0]);
    let wrong = draft(
        scope.clone(),
        &[("host", "nowhere"), ("region", "mine"), ("misspelt", "x")],
    );
    let found = faults(estate.put_layer(&operator(), "pay", &wrong).await);
    let kinds: Vec<_> = found
        .iter()
        .map(|fault| (fault.parameter.as_str(), &fault.kind))
        .collect();
    assert!(matches!(kinds[0], ("host", FaultKind::Value(_))), "{kinds:?}");
    assert_eq!(
        kinds[1..],
        [("misspelt", &FaultKind::NotDefined), ("region", &FaultKind::TooNarrow)]
    );

    let mut undefined = draft(scope.clone(), &[("header", "${greeting}")]);
    undefined
        .variables
        .insert("greeting".to_owned(), "hello ${who}".to_owned());
    let page = estate.affected(&operator(), "pay", &undefined, None, 10).await.unwrap();
    assert!(!page.rows[0].now && page.rows[0].changes.is_empty());
    estate.put_layer(&operator(), "pay", &undefined).await.unwrap();
    let error = estate
        .preview(&operator(), &Caller::Id(east[0]), "pay", None)
        .await
        .unwrap_err();
    let EstateError::Parameters(ParameterError::Faults(found)) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (found[0].parameter.as_str(), &found[0].from),
        ("header", &Some(Origin::Layer(scope)))
    );
    assert_eq!(found[0].to_string(), "header: undefined variable: greeting -> who");
    assert!(matches!(
        estate.parameters().prepare(east[0], "pay", None).await,
        Err(ParameterError::Faults(_))
    ));
    assert!(estate.parameters().prepare(east[1], "pay", None).await.is_ok());
}

#[tokio::test]
async fn an_edit_names_the_terminals_that_it_changes_and_no_others() {
    let Setting { estate, east, west, .. } = setting().await;
    // This one has a host of its own, which hides what its branch sets.
    let own = draft(Scope::Terminal(east[1]), &[("host", "own:1")]);
    estate.put_layer(&operator(), "pay", &own).await.unwrap();
    let all = async |scope: Scope, limit| {
        let draft = draft(scope, &[("host", "new:2")]);
        let (mut found, mut examined, mut after) = (Vec::new(), 0, None);
        loop {
            let page = estate
                .affected(&operator(), "pay", &draft, after.as_deref(), limit)
                .await
                .unwrap();
            assert!(page.examined <= limit);
            examined += page.examined;
            found.extend(page.rows.into_iter().map(|row| row.terminal));
            after = page.next;
            if after.is_none() {
                found.sort();
                return (found, examined);
            }
        }
    };
    let sorted = |ids: &[TerminalId]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    for limit in [1, 2, 3, 10] {
        assert_eq!(all(branch(&["east"]), limit).await, (sorted(&[east[0], east[2]]), 3));
        assert_eq!(all(branch(&["west"]), limit).await, (vec![west], 1));
        assert_eq!(
            all(Scope::head_office(), limit).await,
            (sorted(&[east[0], east[2], west]), 4)
        );
        assert_eq!(
            all(Scope::Merchant("100".into()), limit).await,
            (sorted(&[east[0], east[2], west]), 4)
        );
        assert_eq!(all(Scope::Vendor("Verifone".into()), limit).await, (vec![], 0));
        assert_eq!(all(Scope::Terminal(west), limit).await, (vec![west], 1));
    }
    // What changes nothing looks at nobody.
    let nothing = estate
        .affected(&operator(), "pay", &draft(branch(&["east"]), &[]), None, 10)
        .await
        .unwrap();
    assert_eq!((nothing.rows, nothing.examined, nothing.next), (vec![], 0, None));
    let bad = estate.affected(&operator(), "pay", &own, Some("x"), 10).await;
    assert!(matches!(bad, Err(EstateError::BadCursor)));
}

#[tokio::test]
async fn who_may_write_what() {
    let Setting { estate, east, west, .. } = setting().await;
    let li = limited(
        &estate,
        "li",
        "/east",
        &[Permission::ManageParameters, Permission::View],
    )
    .await;
    let viewer = limited(&estate, "wang", "/west", &[Permission::View]).await;
    let host = [("host", "a:1")];
    for scope in [
        branch(&["east"]),
        branch(&["east", "harbour"]),
        Scope::Merchant("100".into()),
        Scope::Terminal(east[1]),
    ] {
        estate.put_layer(&li, "pay", &draft(scope, &host)).await.unwrap();
    }
    let model = Scope::Model {
        vendor: "PAX".into(),
        model: "P80".into(),
    };
    let refused = [
        Scope::head_office(),
        branch(&["west"]),
        model,
        Scope::Vendor("PAX".into()),
        Scope::Terminal(west),
    ];
    for scope in refused {
        let denied = estate.put_layer(&li, "pay", &draft(scope, &host)).await;
        assert!(
            matches!(&denied, Err(EstateError::Denied(denied)) if denied.permission == Permission::ManageParameters)
        );
    }
    assert!(matches!(
        estate.put_template(&li, template()).await,
        Err(EstateError::Denied(_))
    ));
    assert!(matches!(
        estate.put_layer(&viewer, "pay", &draft(branch(&["west"]), &host)).await,
        Err(EstateError::Denied(_))
    ));
    // What they may not see is as if it were not there.
    let hidden = estate
        .layer(&viewer, "pay", &branch(&["east"]), None)
        .await
        .unwrap_err();
    assert_eq!(hidden.to_string(), "no layer of pay");
    let hidden = estate
        .preview(&viewer, &Caller::Id(east[0]), "pay", None)
        .await
        .unwrap_err();
    assert!(matches!(hidden, EstateError::UnknownTerminal(_)));
    assert!(estate.preview(&viewer, &Caller::Id(west), "pay", None).await.is_ok());
    // A version that somebody else wrote is not overwritten.
    let mut second = draft(branch(&["east"]), &[("host", "b:1")]);
    second.version = 2;
    estate.put_layer(&li, "pay", &second).await.unwrap();
    second
        .values
        .insert("host".to_owned(), Some(Zeroizing::new("c:1".to_owned())));
    assert!(matches!(
        estate.put_layer(&li, "pay", &second).await,
        Err(EstateError::There(..))
    ));
    for scope in [branch(&["nowhere"]), branch(&["a/b"]), Scope::Merchant("7".into())] {
        let missing = estate.put_layer(&operator(), "pay", &draft(scope, &host)).await;
        assert!(matches!(missing, Err(EstateError::Unknown(..))));
    }
    let names = estate.templates(&operator(), None, 10).await.unwrap();
    assert_eq!(
        names
            .iter()
            .map(|found| (found.name.as_str(), found.version))
            .collect::<Vec<_>>(),
        [("pay", 1)]
    );
    assert_eq!(estate.templates(&operator(), Some("pay"), 10).await.unwrap(), []);
}
