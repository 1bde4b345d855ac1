//! What the conformance suites of blobs and transports are made of.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// What a backend did against its contract.
#[derive(Debug)]
pub struct Violation(String);

impl Violation {
    /// In words.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A violation, unless this holds.
pub(super) fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation(otherwise())) }
}

/// The proof of a clause.
pub type Proof<'a> = Pin<Box<dyn Future<Output = Result<(), Violation>> + Send + 'a>>;

/// One clause of a contract, or a part of one, and its proof on what a fixture of type `F` opens.
pub struct Clause<F> {
    name: &'static str,
    prove: for<'a> fn(&'a F) -> Proof<'a>,
}

impl<F> Clause<F> {
    /// A proof that takes longer than this has failed.
    const PATIENCE: Duration = Duration::from_secs(120);

    pub(super) const fn new(name: &'static str, prove: for<'a> fn(&'a F) -> Proof<'a>) -> Self {
        Self { name, prove }
    }

    /// The name of its test.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Proves it. Needs a tokio runtime with more than one thread, or races do not race.
    ///
    /// # Errors
    /// What the backend did wrong.
    pub async fn prove(&self, fixture: &F) -> Result<(), Violation> {
        match tokio::time::timeout(Self::PATIENCE, (self.prove)(fixture)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Violation(format!("not done after {} s", Self::PATIENCE.as_secs()))),
        }
    }
}

impl<F> fmt::Debug for Clause<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clause").field(&self.name).finish()
    }
}

/// Proves the clause of this name.
pub(super) fn prove<F>(clauses: Vec<Clause<F>>, fixture: &F, name: &str) {
    let clause = clauses
        .into_iter()
        .find(|clause| clause.name == name)
        .expect("a clause of this name");
    if let Err(violation) = runtime().block_on(clause.prove(fixture)) {
        panic!("the contract is broken: {violation}");
    }
}

/// Makes sure that these are all clauses.
pub(super) fn cover<F>(clauses: &[Clause<F>], tests: &[&str]) {
    let all: Vec<_> = clauses.iter().map(Clause::name).collect();
    assert_eq!(all, tests);
}

/// A runtime whose threads race.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Makes sure that each clause catches a defect, and that each defect is caught by the clause that is named with it.
#[cfg(test)]
pub(super) fn catches<F: Send + Sync, D: Copy + Sync + fmt::Debug>(
    defects: &[(D, &str)],
    fixture: impl Fn(D) -> F,
    clauses: fn() -> Vec<Clause<F>>,
) {
    for clause in clauses() {
        assert!(
            defects.iter().any(|(_, by)| *by == clause.name),
            "{} catches nothing",
            clause.name
        );
    }
    // Side by side: some are found by waiting for what does not come.
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (defect, by) in defects {
            let (clause, fixture) = (
                clauses().into_iter().find(|clause| clause.name == *by),
                fixture(*defect),
            );
            let (clause, missed) = (clause.expect("a clause of this name"), &missed);
            scope.spawn(move || {
                if runtime().block_on(clause.prove(&fixture)).is_ok() {
                    missed.lock().unwrap().push((defect, by));
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{missed:#?}");
}
