//! The operator's side: who may do what, and what is written of it.

use crate::world::{NOW, World, holder, operator};
use std::collections::BTreeSet;
use tms_core::estate::{
    Account, Act, Actor, AuditEntry, AuditHead, Branch, Enrolment, EstateError, Grant, Merchant, Operator, Permission,
    Relation, Role, SignInError, Site, Standing,
};
use tms_core::store::{
    BranchPath, Caller, Change, Document, Entity, Expect, Key, Record, TerminalId, TerminalState, Versioned,
};
use tms_core::testing::sample;

fn path(text: &str) -> BranchPath {
    text.parse().unwrap()
}

fn branch(text: &str) -> Branch {
    Branch {
        path: path(text),
        name: format!("branch {text}"),
        zone: None,
        variables: Default::default(),
    }
}

fn merchant(number: &str, at: &str) -> Merchant {
    Merchant {
        number: number.to_owned(),
        branch: path(at),
        name: format!("shop {number}"),
        category: Some("5411".to_owned()),
        variables: Default::default(),
    }
}

async fn role(world: &World, name: &str, permissions: &[Permission]) {
    let role = Role {
        name: name.to_owned(),
        permissions: permissions.iter().copied().collect(),
    };
    world.estate.put_role(&operator(), role).await.unwrap();
}

fn person(name: &str, at: &str, grants: &[(&str, &str)], account: Account) -> Operator {
    Operator {
        name: name.to_owned(),
        full_name: format!("{name} of {at}"),
        branch: path(at),
        grants: grants
            .iter()
            .map(|(role, branch)| Grant {
                role: (*role).to_owned(),
                branch: path(branch),
            })
            .collect(),
        account,
        suspended: false,
        failures: 0,
        locked_until: None,
    }
}

/// Two branches, and in each an operator for whom something outside vouches.
async fn organisation() -> (World, Actor, Actor) {
    let world = World::new().await;
    for at in ["/east", "/east/harbour", "/west"] {
        world.estate.put_branch(&operator(), branch(at)).await.unwrap();
    }
    role(&world, "manager", &Permission::ALL).await;
    let mut actors = Vec::new();
    for (name, at) in [("li", "/east"), ("wang", "/west")] {
        let person = person(name, at, &[("manager", at)], Account::External);
        world.estate.put_operator(&operator(), person).await.unwrap();
        actors.push(world.estate.sign_in_vouched(name).await.unwrap());
    }
    let wang = actors.pop().unwrap();
    let li = actors.pop().unwrap();
    (world, li, wang)
}

fn is_denied<T>(outcome: &Result<T, EstateError>, permission: Permission) -> bool {
    matches!(outcome, Err(EstateError::Denied(denied)) if denied.permission == permission)
}

async fn place(world: &World, id: TerminalId, at: &str) {
    let mut entry = sample::roster(id.0);
    entry.branch = path(at);
    world
        .store
        .commit(vec![Change::Put(Expect::Any, entry.into())])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_branch_sees_and_changes_only_what_is_below_it() {
    let (world, li, wang) = organisation().await;
    let estate = &world.estate;
    estate.put_merchant(&li, merchant("1", "/east/harbour")).await.unwrap();
    estate.put_merchant(&wang, merchant("2", "/west")).await.unwrap();

    let denied = estate.put_merchant(&wang, merchant("3", "/east")).await;
    assert!(is_denied(&denied, Permission::ManageOrganisation));
    // nor may he take what is another's
    let taken = estate.put_merchant(&wang, merchant("1", "/west")).await;
    assert!(is_denied(&taken, Permission::ManageOrganisation));
    assert_eq!(estate.merchant(&li, "1").await.unwrap().branch, path("/east/harbour"));
    // what they may not see is as if it were not there
    for (actor, number) in [(&wang, "1"), (&li, "2"), (&li, "nobody")] {
        let missing = estate.merchant(actor, number).await.unwrap_err();
        assert_eq!(missing.to_string(), format!("no merchant {number}"));
    }
    let everywhere = BranchPath::head_office();
    let names = |branches: Vec<Branch>| branches.into_iter().map(|branch| branch.path).collect::<Vec<_>>();
    let seen = estate.branches(&li, &everywhere, None, 10).await.unwrap();
    assert_eq!(names(seen), [path("/east"), path("/east/harbour")]);
    let seen = estate
        .branches(&operator(), &everywhere, Some(path("/east")), 1)
        .await
        .unwrap();
    assert_eq!(names(seen), [path("/east/harbour")]);
    let counts = estate.count_merchants(&wang, &everywhere).await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(path("/west"), 1)]);

    // a branch is made from above, and goes when nothing is left in it
    assert!(is_denied(
        &estate.put_branch(&li, branch("/north")).await,
        Permission::ManageOrganisation
    ));
    estate.put_branch(&li, branch("/east/hill")).await.unwrap();
    let orphan = estate
        .put_branch(&operator(), branch("/nowhere/below"))
        .await
        .unwrap_err();
    assert_eq!(orphan.to_string(), "no branch /nowhere/");
    let in_use = estate.remove_branch(&operator(), &path("/east")).await.unwrap_err();
    assert_eq!(in_use.to_string(), "/east/ still has branches");
    let in_use = estate.remove_branch(&li, &path("/east/harbour")).await.unwrap_err();
    assert_eq!(in_use.to_string(), "/east/harbour/ still has merchants");
    estate.remove_branch(&li, &path("/east/hill")).await.unwrap();
    assert!(is_denied(
        &estate.remove_branch(&li, &path("/east")).await,
        Permission::ManageOrganisation
    ));

    for (wrong, what) in [
        (merchant("", "/east"), "number"),
        (merchant("1234567890123456", "/east"), "number"),
        (
            Merchant {
                category: Some("54x1".to_owned()),
                ..merchant("4", "/east")
            },
            "category",
        ),
    ] {
        let error = estate.put_merchant(&li, wrong).await.unwrap_err();
        assert!(
            matches!(error, EstateError::Invalid(field, _) if field == what),
            "{error}"
        );
    }
    let site = Site {
        id: "quay-1".to_owned(),
        merchant: "1".to_owned(),
        branch: path("/east/harbour"),
        address: "1 Quay".to_owned(),
        zone: Some("Asia/Shanghai".to_owned()),
    };
    estate.put_site(&li, site.clone()).await.unwrap();
    let orphan = Site {
        merchant: "9".to_owned(),
        ..site
    };
    assert_eq!(
        estate.put_site(&li, orphan).await.unwrap_err().to_string(),
        "no merchant 9"
    );
}

#[tokio::test]
async fn what_concerns_a_terminal_takes_a_right_in_its_branch() {
    let (world, li, wang) = organisation().await;
    let estate = &world.estate;
    let id = world.enrol("0001").await;
    place(&world, id, "/east/harbour").await;
    let manifest = world.publish(b"program", 2).await;
    let caller = Caller::Id(id);

    assert!(is_denied(
        &estate.queue(&wang, &caller, &manifest).await,
        Permission::Plan
    ));
    let state = estate.set_state(&wang, &caller, TerminalState::Blacklisted).await;
    assert!(is_denied(&state, Permission::ChangeState));
    let action = estate.queue(&li, &caller, &manifest).await.unwrap();
    assert!(is_denied(
        &estate.cancel(&wang, &caller, action).await,
        Permission::Plan
    ));
    estate.cancel(&li, &caller, action).await.unwrap();
    estate
        .set_state(&li, &caller, TerminalState::Deactivated)
        .await
        .unwrap();

    // packages are for all branches, and so is a terminal of head office
    let file = b"no package".to_vec();
    assert!(is_denied(
        &estate.publish(&li, &mut &file[..]).await,
        Permission::Publish
    ));
    let enrolment = Enrolment::of(holder("0002"));
    assert!(is_denied(
        &estate.enrol(&li, enrolment.clone()).await,
        Permission::Enrol
    ));
    let nowhere = Enrolment {
        branch: path("/east/nowhere"),
        ..enrolment.clone()
    };
    let unknown = estate.enrol(&li, nowhere).await.unwrap_err();
    assert_eq!(unknown.to_string(), "no branch /east/nowhere/");
    let here = Enrolment {
        branch: path("/east/harbour"),
        ..enrolment
    };
    estate.enrol(&li, here).await.unwrap();
}

#[tokio::test]
async fn nobody_gives_what_they_do_not_have() {
    let (world, li, _) = organisation().await;
    let estate = &world.estate;
    role(&world, "viewer", &[Permission::View]).await;

    let below = person(
        "chen",
        "/east/harbour",
        &[("viewer", "/east/harbour")],
        Account::External,
    );
    estate.put_operator(&li, below.clone()).await.unwrap();
    for (grants, at) in [
        (&[("viewer", "/")][..], "/east/harbour"),
        (&[("manager", "/west")], "/east"),
        (&[("viewer", "/east")], "/west"),
    ] {
        let outcome = estate
            .put_operator(&li, person("mallory", at, grants, Account::External))
            .await;
        assert!(matches!(outcome, Err(EstateError::Denied(_))), "{grants:?} {at}");
    }
    let unknown = estate
        .put_operator(&li, person("m", "/east", &[("king", "/east")], Account::External))
        .await;
    assert_eq!(unknown.unwrap_err().to_string(), "no role king");

    // a manager of operators with few rights cannot take over one with many
    role(&world, "clerk", &[Permission::ManageOperators, Permission::View]).await;
    let clerk = person("zhou", "/east", &[("clerk", "/east")], Account::External);
    estate.put_operator(&li, clerk).await.unwrap();
    let zhou = estate.sign_in_vouched("zhou").await.unwrap();
    let password = estate.verifier("a password of zhou's").await.unwrap();
    let taken = Operator {
        grants: BTreeSet::new(),
        account: Account::Password(password),
        ..person("li", "/east", &[], Account::External)
    };
    assert!(matches!(
        estate.put_operator(&zhou, taken).await,
        Err(EstateError::Denied(_))
    ));
    // and roles are everybody's
    let role = Role {
        name: "viewer".to_owned(),
        permissions: Permission::ALL.into(),
    };
    assert!(is_denied(
        &estate.put_role(&li, role).await,
        Permission::ManageOperators
    ));

    // what is taken away is gone at the next signing in
    estate
        .put_operator(
            &li,
            Operator {
                grants: BTreeSet::new(),
                ..below
            },
        )
        .await
        .unwrap();
    let chen = estate.sign_in_vouched("chen").await.unwrap();
    assert!(!chen.may(Permission::View, &path("/east/harbour")));
    estate.remove_operator(&li, "chen").await.unwrap();
    assert!(matches!(
        estate.sign_in_vouched("chen").await,
        Err(SignInError::Refused)
    ));
}

#[tokio::test]
async fn passwords_are_verified_and_guessing_locks_out() {
    let (world, li, _) = organisation().await;
    let estate = &world.estate;
    let short = estate.verifier("short").await.unwrap_err();
    assert_eq!(short.to_string(), "password must have at least 12 characters");
    let verifier = estate.verifier("correct horse battery").await.unwrap();
    let chen = person("chen", "/east", &[("manager", "/east")], Account::Password(verifier));
    estate.put_operator(&li, chen).await.unwrap();

    let actor = estate.sign_in("chen", "correct horse battery").await.unwrap();
    assert_eq!(actor.name(), "chen");
    assert!(actor.may(Permission::Plan, &path("/east/harbour")) && !actor.may(Permission::Plan, &path("/west")));
    for (name, password) in [
        ("nobody", "correct horse battery"),
        ("chen", "wrong"),
        ("li", "correct horse battery"),
    ] {
        assert!(matches!(
            estate.sign_in(name, password).await,
            Err(SignInError::Refused)
        ));
    }
    // one failure so far; a success forgets it
    estate.sign_in("chen", "correct horse battery").await.unwrap();
    for _ in 0..5 {
        assert!(estate.sign_in("chen", "wrong").await.is_err());
    }
    assert!(estate.sign_in("chen", "correct horse battery").await.is_err());
    world.clock.advance(61);
    estate.sign_in("chen", "correct horse battery").await.unwrap();
    let acts: Vec<_> = audit(&world).await.into_iter().map(|(act, _)| act).collect();
    assert_eq!(acts.iter().filter(|act| *act == "operator.lock_out").count(), 1);

    let mut suspended = person("chen", "/east", &[], Account::External);
    suspended.suspended = true;
    estate.put_operator(&li, suspended).await.unwrap();
    assert!(estate.sign_in_vouched("chen").await.is_err());
}

#[tokio::test]
async fn a_token_opens_until_it_ends_or_another_is_made() {
    let (world, li, _) = organisation().await;
    let estate = &world.estate;
    let program = person("bms", "/east", &[("manager", "/east")], Account::External);
    estate.put_operator(&li, program).await.unwrap();
    let first = estate.new_token(&li, "bms", NOW + 100).await.unwrap();
    assert!(first.reveal().starts_with("tms_") && first.reveal().len() == 68);
    assert_eq!(format!("{first:?}"), "NewToken");
    assert_eq!(estate.sign_in_by_token(first.reveal()).await.unwrap().name(), "bms");
    for wrong in ["", "tms_", &first.reveal()[..40], &format!("{} ", first.reveal())] {
        assert!(estate.sign_in_by_token(wrong).await.is_err(), "{wrong:?}");
    }
    let second = estate.new_token(&li, "bms", NOW + 100).await.unwrap();
    assert!(estate.sign_in_by_token(first.reveal()).await.is_err());
    estate.sign_in_by_token(second.reveal()).await.unwrap();
    world.clock.advance(100);
    assert!(estate.sign_in_by_token(second.reveal()).await.is_err());
    // the token itself is kept nowhere, and its digest is not told
    let told: String = audit(&world).await.into_iter().map(|(_, detail)| detail).collect();
    assert!(
        !told.contains(&first.reveal()[4..]) && !told.contains("digest"),
        "{told}"
    );
}

#[tokio::test]
async fn some_things_take_two_operators() {
    let (world, li, wang) = organisation().await;
    let estate = &world.estate;
    let id = world.enrol("0001").await;
    place(&world, id, "/east/harbour").await;
    let manifest = world.publish(b"program", 2).await;
    world.queue(id, &manifest).await;
    let retire = Act::Retire { terminals: [id].into() };
    assert!(is_denied(
        &estate.propose(&wang, retire.clone(), "gone").await,
        Permission::Retire
    ));
    let proposal = estate.propose(&li, retire.clone(), "scrapped").await.unwrap();
    assert_eq!(
        (&proposal.branch, &proposal.standing),
        (&path("/east/harbour"), &Standing::Open)
    );
    let everywhere = BranchPath::head_office();
    assert_eq!(
        estate.proposals(&li, &everywhere, 10).await.unwrap(),
        std::slice::from_ref(&proposal)
    );
    assert_eq!(estate.proposals(&wang, &everywhere, 10).await.unwrap(), []);
    assert_eq!(estate.proposal(&li, &proposal.id).await.unwrap(), proposal);
    assert!(matches!(
        estate.proposal(&wang, &proposal.id).await,
        Err(EstateError::Unknown("proposal", _))
    ));

    assert!(matches!(
        estate.approve(&li, &proposal.id).await,
        Err(EstateError::SecondOperator)
    ));
    assert!(is_denied(
        &estate.approve(&wang, &proposal.id).await,
        Permission::Retire
    ));
    assert!(world.store.check_in(&Caller::Id(id)).await.unwrap().is_some());
    let done = estate.approve(&operator(), &proposal.id).await.unwrap();
    assert_eq!(
        done.standing,
        Standing::Done {
            by: "test".to_owned(),
            at: NOW
        }
    );
    assert_eq!(estate.proposal(&li, &proposal.id).await.unwrap(), done);
    assert!(world.store.check_in(&Caller::Id(id)).await.unwrap().is_none());
    for key in [
        Key::Roster(id),
        Key::Inventory(id),
        Key::Assignment(id, tms_core::store::ActionId(1)),
    ] {
        assert!(world.store.get(&key).await.unwrap().is_none(), "{key:?}");
    }
    assert!(matches!(
        estate.approve(&operator(), &proposal.id).await,
        Err(EstateError::Over(..))
    ));
    assert_eq!(estate.proposals(&li, &everywhere, 10).await.unwrap(), []);
    // its serial number is free
    let again = world.enrol("0001").await;
    assert_ne!(again, id);

    // keys: what the old one opened, it opens no longer
    place(&world, again, "/east").await;
    let act = Act::ChangeMainKey {
        terminal: again,
        epoch: Some(2),
    };
    let proposal = estate.propose(&li, act.clone(), "rotation").await.unwrap();
    estate.approve(&operator(), &proposal.id).await.unwrap();
    assert_eq!(world.known(again).await.terminal.record.main_key_epoch, Some(2));
    let proposal = estate.propose(&li, act.clone(), "again").await.unwrap();
    estate.dismiss(&li, &proposal.id).await.unwrap();
    assert!(matches!(
        estate.approve(&operator(), &proposal.id).await,
        Err(EstateError::Over(..))
    ));
    let proposal = estate.propose(&li, act, "late").await.unwrap();
    world.clock.advance(7 * 86_400);
    assert!(matches!(
        estate.approve(&operator(), &proposal.id).await,
        Err(EstateError::Over(..))
    ));
    let none = Act::Retire {
        terminals: BTreeSet::new(),
    };
    assert!(matches!(
        estate.propose(&li, none, "none").await,
        Err(EstateError::Invalid(..))
    ));
}

#[tokio::test]
async fn what_stands_where_is_kept_with_its_times() {
    let (world, li, wang) = organisation().await;
    let estate = &world.estate;
    let logical = "123456789012345:00000042";
    let at = path("/east");
    estate
        .bind(&li, Relation::Device, (logical, "d1"), &at, "installed")
        .await
        .unwrap();
    world.clock.advance(10);
    // the same again changes nothing
    estate
        .bind(&li, Relation::Device, (logical, "d1"), &at, "installed")
        .await
        .unwrap();
    estate
        .bind(&li, Relation::Device, (logical, "d2"), &at, "replaced")
        .await
        .unwrap();
    estate
        .bind(&li, Relation::Site, (logical, "quay-1"), &at, "installed")
        .await
        .unwrap();
    let taken = estate
        .bind(&wang, Relation::Device, (logical, "d3"), &path("/west"), "mine")
        .await;
    assert!(is_denied(&taken, Permission::ManageOrganisation), "{taken:?}");

    let history = estate.bindings_of(&li, Relation::Device, logical).await.unwrap();
    let times: Vec<_> = history
        .iter()
        .map(|binding| {
            (
                binding.object.as_str(),
                binding.from - NOW,
                binding.until.map(|until| until - NOW),
            )
        })
        .collect();
    assert_eq!(times, [("d2", 10, None), ("d1", 0, Some(10))]);
    assert_eq!(estate.bindings_of(&wang, Relation::Device, logical).await.unwrap(), []);
    let of = |now| estate.bindings_to(&li, Relation::Device, "d1", now);
    assert_eq!(of(false).await.unwrap().len(), 1);
    assert_eq!(of(true).await.unwrap(), []);
    assert_eq!(estate.bindings_to(&li, Relation::Device, "d", false).await.unwrap(), []);

    world.clock.advance(10);
    estate.unbind(&li, Relation::Device, logical, "scrapped").await.unwrap();
    let twice = estate
        .unbind(&li, Relation::Device, logical, "scrapped")
        .await
        .unwrap_err();
    assert_eq!(twice.to_string(), format!("no binding of {logical}"));
    estate
        .bind(&li, Relation::Device, (logical, "d1"), &at, "back")
        .await
        .unwrap();
    assert_eq!(
        estate.bindings_of(&li, Relation::Device, logical).await.unwrap().len(),
        3
    );
    assert_eq!(of(true).await.unwrap().len(), 1);
    let slash = estate.bind(&li, Relation::Device, ("a/b", "c"), &at, "x").await;
    assert!(matches!(slash, Err(EstateError::Invalid("subject", _))));
}

async fn audit(world: &World) -> Vec<(String, String)> {
    let entries = world.estate.audit(&operator(), 0, 1_000).await.unwrap();
    entries.into_iter().map(|entry| (entry.act, entry.detail)).collect()
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_and_the_log_is_a_chain() {
    let (world, li, wang) = organisation().await;
    let estate = &world.estate;
    estate.put_merchant(&li, merchant("1", "/east")).await.unwrap();
    let id = world.enrol("0001").await;
    world.queue(id, &world.publish(b"program", 2).await).await;
    let acts: Vec<_> = audit(&world).await.into_iter().map(|(act, _)| act).collect();
    assert_eq!(
        acts,
        [
            "branch.create",
            "branch.create",
            "branch.create",
            "role.put",
            "operator.create",
            "operator.create",
            "merchant.create",
            "terminal.enrol",
            "package.publish",
            "action.queue"
        ]
    );
    // a branch reads what concerns it
    let seen = estate.audit(&wang, 0, 100).await.unwrap();
    assert_eq!(
        seen.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(),
        ["/west/", "wang"]
    );
    let seen = estate.audit(&li, 5, 1).await.unwrap();
    assert_eq!(seen.iter().map(|entry| entry.number).collect::<Vec<_>>(), [7]);
    // what is refused is not written, and changes nothing
    assert!(estate.put_merchant(&wang, merchant("1", "/west")).await.is_err());
    let end = estate.verify_audit(None).await.unwrap();
    assert_eq!(end.number, 10);

    // many operators at once: one chain
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (estate, li) = (estate.clone(), li.clone());
        tasks.spawn(async move { estate.put_merchant(&li, merchant(&format!("m{number}"), "/east")).await });
    }
    assert!(tasks.join_all().await.iter().all(Result::is_ok));
    assert_eq!(estate.verify_audit(Some(end)).await.unwrap().number, 30);

    type Tamper = fn(&mut AuditEntry);
    let tampers: [(u64, Tamper); 4] = [
        (3, |entry| entry.operator = "nobody".to_owned()),
        (9, |entry| entry.detail.push(' ')),
        (10, |entry| entry.time += 1),
        (10, |entry| entry.branch = path("/west")),
    ];
    for (number, tamper) in tampers {
        let key = Key::Document(AuditEntry::KIND, format!("{number:020}"));
        let Some(Versioned {
            record: Record::Document(right),
            ..
        }) = world.store.get(&key).await.unwrap()
        else {
            panic!("no entry {number}");
        };
        let mut entry = right.read().unwrap();
        tamper(&mut entry);
        put(&world, Document::of(&entry).unwrap()).await;
        let broken = estate.verify_audit(None).await.unwrap_err().to_string();
        assert_eq!(
            broken,
            format!("the audit log is broken at entry {number}: it was changed")
        );
        put(&world, *right).await;
    }
    // an entry that is taken away, and a chain that is made anew
    let key = Key::Document(AuditEntry::KIND, format!("{:020}", 4));
    world
        .store
        .commit(vec![Change::Remove(Expect::Any, key)])
        .await
        .unwrap();
    let broken = estate.verify_audit(None).await.unwrap_err().to_string();
    assert!(broken.ends_with("at entry 4: it is missing"), "{broken}");
    let other = World::new().await;
    for number in 0..12 {
        let made = branch(&format!("/b{number}"));
        other.estate.put_branch(&operator(), made).await.unwrap();
    }
    let broken = other.estate.verify_audit(Some(end)).await.unwrap_err().to_string();
    assert!(
        broken.ends_with("at entry 10: it is not the one that was noted"),
        "{broken}"
    );
    let later = AuditHead { number: 99, ..end };
    let broken = other.estate.verify_audit(Some(later)).await.unwrap_err().to_string();
    assert!(broken.ends_with("at entry 99: it is missing"), "{broken}");
}

async fn put(world: &World, document: Document) {
    let change = Change::Put(Expect::Any, document.into());
    world.store.commit(vec![change]).await.unwrap();
}
