//! Operators and roles: who they are, what they may do, and how they sign in.

use super::access::{Actor, Permission, Scope};
use super::audit::Deed;
use super::branch::{expected, text, within};
use super::{Estate, EstateError, decided};
use crate::store::{BranchPath, Change, Document, Entity, Expect, Key, Kind, Query, StoreError};
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;
use tms_proto::digest::Digest;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

/// How many passwords are verified at once: each takes 19 MiB.
pub(super) const SIGN_INS: usize = 2;

/// Failed sign-ins after which an operator is locked out for a while.
const FAILURES: u32 = 5;

/// How long a lock-out is at first, in seconds. It doubles with each further failure, up to an hour.
const LOCK_OUT: u64 = 60;

/// The most roles that are given.
const MAX_ROLES: u32 = 1_000;

/// The shortest password, in characters.
const MIN_PASSWORD: usize = 12;

/// How an API token begins, so that it is recognised where it should not be.
const TOKEN_PREFIX: &str = "tms_";

/// Permissions under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// The name: 1 to 40 characters.
    pub name: String,
    /// What it allows.
    pub permissions: BTreeSet<Permission>,
}

/// A role in a branch and those below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    /// The role's name.
    pub role: String,
    /// The branch.
    pub branch: BranchPath,
}

/// Who acts in the estate: a person or a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The name to sign in with: 1 to 40 characters.
    pub name: String,
    /// The person's name, or what the program is for.
    pub full_name: String,
    /// The branch that manages them.
    pub branch: BranchPath,
    /// What they may do.
    pub grants: BTreeSet<Grant>,
    /// How they prove who they are.
    pub account: Account,
    /// They cannot sign in.
    #[serde(default)]
    pub suspended: bool,
    /// Failed sign-ins since the last that succeeded.
    #[serde(default)]
    pub failures: u32,
    /// They cannot sign in before this time, in seconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<u64>,
}

/// How an operator proves who they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// By a password.
    Password(Verifier),
    /// By something outside, such as a company's single sign-on; what embeds the estate vouches for it.
    External,
    /// By a token: a program.
    Token {
        /// The token's digest.
        digest: Digest,
        /// When it ends, in seconds since 1970 UTC.
        expires: u64,
    },
}

/// What a password is verified with: Argon2id in PHC string format.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verifier(String);

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// A token that was just made. It is shown once and kept nowhere.
pub struct NewToken(Zeroizing<String>);

impl NewToken {
    /// The token.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken")
    }
}

/// Why somebody could not sign in.
#[derive(Debug, Error)]
pub enum SignInError {
    /// The name is not known, the password wrong, the account suspended, locked or expired: which, is not told.
    #[error("name or password is wrong, or the account is locked")]
    Refused,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Entity for Role {
    const KIND: Kind = Kind::named("role");

    fn id(&self) -> String {
        self.name.clone()
    }
}

impl Entity for Operator {
    const KIND: Kind = Kind::named("operator");

    fn id(&self) -> String {
        self.name.clone()
    }

    fn marks(&self) -> Vec<(&'static str, String)> {
        let mut marks = vec![("branch", self.branch.to_string())];
        if let Account::Token { digest, .. } = &self.account {
            marks.push(("token", digest.to_string()));
        }
        marks
    }
}

impl Operator {
    fn is_locked(&self, now: u64) -> bool {
        self.suspended || self.locked_until.is_some_and(|until| now < until)
    }

    /// What the audit log tells of them: no secret, nor what sign-ins change.
    fn told(&self) -> serde_json::Value {
        let account = match &self.account {
            Account::Password(_) => "password",
            Account::External => "external",
            Account::Token { .. } => "token",
        };
        json!({
            "full_name": self.full_name,
            "branch": self.branch,
            "grants": self.grants,
            "account": account,
            "suspended": self.suspended,
        })
    }
}

impl Verifier {
    /// The verifier of `password`.
    ///
    /// # Errors
    /// [`EstateError::Invalid`] where it is too short.
    pub async fn of(password: &str, salt: [u8; 16]) -> Result<Self, EstateError> {
        if password.chars().count() < MIN_PASSWORD || password.len() > 1024 {
            return Err(EstateError::Invalid("password", "must have at least 12 characters"));
        }
        let password = Zeroizing::new(password.to_owned());
        let made = spawn_blocking(move || {
            let salt = SaltString::encode_b64(&salt).ok()?;
            let hash = Argon2::default().hash_password(password.as_bytes(), &salt).ok()?;
            Some(hash.to_string())
        });
        match made.await {
            Ok(Some(text)) => Ok(Self(text)),
            _ => Err(EstateError::Invalid("password", "cannot be used")),
        }
    }

    async fn verify(self, password: &str) -> bool {
        let password = Zeroizing::new(password.to_owned());
        let verified = spawn_blocking(move || {
            PasswordHash::new(&self.0)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        });
        verified.await.unwrap_or(false)
    }

    /// That of a password that nobody has: so that an unknown name takes as long as a known one.
    fn nobodys() -> Self {
        Self(
            "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                .to_owned(),
        )
    }
}

impl Estate {
    /// Makes a role or changes it. Everybody who has it is concerned, in all branches: it takes the right to manage operators at
    /// head office.
    ///
    /// # Errors
    /// [`EstateError::Denied`], also where it would allow what the actor may not do; [`EstateError::Invalid`].
    pub async fn put_role(&self, actor: &Actor, role: Role) -> Result<(), EstateError> {
        text("name", &role.name, 40)?;
        let everywhere = BranchPath::head_office();
        actor.demand(Permission::ManageOperators, &everywhere)?;
        for permission in &role.permissions {
            actor.demand(*permission, &everywhere)?;
        }
        decided(|| async {
            let (expect, before) = expected(self.entity::<Role>(&role.name).await?);
            let deed = Deed {
                act: "role.put",
                subject: role.name.clone(),
                branch: everywhere.clone(),
                detail: json!({ "before": before, "after": role }),
            };
            let changes = vec![Change::Put(expect, Document::of(&role)?.into())];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Makes an operator or changes one. Nobody gives what they do not have.
    ///
    /// # Errors
    /// [`EstateError::Denied`] where the actor may not manage operators in the operator's branch, before and after, or lacks a
    /// permission that a grant would give; [`EstateError::Unknown`] for a role or branch; [`EstateError::Invalid`].
    pub async fn put_operator(&self, actor: &Actor, operator: Operator) -> Result<(), EstateError> {
        text("name", &operator.name, 40)?;
        text("full name", &operator.full_name, 80)?;
        actor.demand(Permission::ManageOperators, &operator.branch)?;
        for grant in &operator.grants {
            let Some((_, role)) = self.entity::<Role>(&grant.role).await? else {
                return Err(EstateError::Unknown("role", grant.role.clone()));
            };
            for permission in role.permissions {
                actor.demand(permission, &grant.branch)?;
            }
        }
        decided(|| async {
            let found = self.entity::<Operator>(&operator.name).await?;
            if let Some((_, before)) = &found {
                actor.demand(Permission::ManageOperators, &before.branch)?;
                // whoever may do more than the actor is not theirs to change: a new password would be theirs
                for grant in &before.grants {
                    let role = self.entity::<Role>(&grant.role).await?;
                    for permission in role.map(|(_, role)| role.permissions).unwrap_or_default() {
                        actor.demand(permission, &grant.branch)?;
                    }
                }
            }
            let (expect, before) = expected(found);
            let deed = Deed {
                act: if before.is_some() {
                    "operator.change"
                } else {
                    "operator.create"
                },
                subject: operator.name.clone(),
                branch: operator.branch.clone(),
                detail: json!({ "before": before.as_ref().map(Operator::told), "after": operator.told() }),
            };
            let changes = vec![Change::Put(expect, Document::of(&operator)?.into())];
            Ok(self.commit(actor, &deed, changes).await?)
        })
        .await
    }

    /// Makes a token for an operator that is a program; one that it had ends.
    ///
    /// # Errors
    /// As [`put_operator`](Self::put_operator); [`EstateError::Unknown`] where there is no such operator.
    pub async fn new_token(&self, actor: &Actor, operator: &str, expires: u64) -> Result<NewToken, EstateError> {
        let Some((_, mut changed)) = self.entity::<Operator>(operator).await? else {
            return Err(EstateError::Unknown("operator", operator.to_owned()));
        };
        let mut random = Zeroizing::new([0; 32]);
        self.entropy.fill(random.as_mut());
        let token = Zeroizing::new(format!("{TOKEN_PREFIX}{}", hex::encode(*random)));
        changed.account = Account::Token {
            digest: Digest::of(token.as_bytes()),
            expires,
        };
        self.put_operator(actor, changed).await?;
        Ok(NewToken(token))
    }

    /// Makes the verifier of a password, to put into an [`Account`].
    ///
    /// # Errors
    /// [`EstateError::Invalid`] where it has fewer than 12 characters.
    pub async fn verifier(&self, password: &str) -> Result<Verifier, EstateError> {
        let mut salt = [0; 16];
        self.entropy.fill(&mut salt);
        Verifier::of(password, salt).await
    }

    /// Signs an operator in by password. After five failures in a row they are locked out, for a minute at first and longer with
    /// each further one.
    ///
    /// # Errors
    /// [`SignInError::Refused`], for whatever reason.
    pub async fn sign_in(&self, name: &str, password: &str) -> Result<Actor, SignInError> {
        let now = self.clock.now();
        let found = self.entity::<Operator>(name).await?;
        let verifier = match &found {
            Some((_, operator)) if !operator.is_locked(now) => match &operator.account {
                Account::Password(verifier) => Some(verifier.clone()),
                _ => None,
            },
            _ => None,
        };
        let known = verifier.is_some();
        let permit = Arc::clone(&self.sign_ins).acquire_owned().await;
        let right = verifier.unwrap_or_else(Verifier::nobodys).verify(password).await && known;
        drop(permit);
        let Some((_, operator)) = found.filter(|_| known) else {
            tracing::warn!("sign-in refused: unknown, locked, or without a password");
            return Err(SignInError::Refused);
        };
        self.note_sign_in(&operator.name, right, now).await?;
        if !right {
            return Err(SignInError::Refused);
        }
        Ok(self.actor_of(operator).await?)
    }

    /// Signs in by token.
    ///
    /// # Errors
    /// [`SignInError::Refused`].
    pub async fn sign_in_by_token(&self, token: &str) -> Result<Actor, SignInError> {
        let digest = Digest::of(token.as_bytes());
        let query = Query::Marked {
            kind: Operator::KIND,
            mark: "token".to_owned(),
            prefix: digest.to_string(),
            after: None,
        };
        let found: Vec<Operator> = self.documents(&query, 1).await?;
        let now = self.clock.now();
        match found.into_iter().next() {
            Some(operator)
                if !operator.is_locked(now)
                    && matches!(operator.account, Account::Token { expires, .. } if now < expires) =>
            {
                Ok(self.actor_of(operator).await?)
            }
            _ => Err(SignInError::Refused),
        }
    }

    /// Signs in whom something outside vouches for.
    ///
    /// # Errors
    /// [`SignInError::Refused`] where their account is not such a one.
    pub async fn sign_in_vouched(&self, name: &str) -> Result<Actor, SignInError> {
        match self.entity::<Operator>(name).await? {
            Some((_, operator))
                if matches!(operator.account, Account::External) && !operator.is_locked(self.clock.now()) =>
            {
                Ok(self.actor_of(operator).await?)
            }
            _ => Err(SignInError::Refused),
        }
    }

    async fn actor_of(&self, operator: Operator) -> Result<Actor, StoreError> {
        let mut scopes = Vec::new();
        for Grant { role, branch } in operator.grants {
            // a role that is gone allows nothing
            if let Some((_, role)) = self.entity::<Role>(&role).await? {
                scopes.push(Scope {
                    branch,
                    permissions: role.permissions,
                });
            }
        }
        Ok(Actor::of(operator.name, scopes))
    }

    /// Counts a failure, or forgets those before. Failures of many at once are all counted.
    async fn note_sign_in(&self, name: &str, right: bool, now: u64) -> Result<(), StoreError> {
        loop {
            let Some((version, mut operator)) = self.entity::<Operator>(name).await? else {
                return Ok(());
            };
            if right {
                if operator.failures == 0 && operator.locked_until.is_none() {
                    return Ok(());
                }
                (operator.failures, operator.locked_until) = (0, None);
            } else {
                operator.failures = operator.failures.saturating_add(1);
                operator.locked_until = locked_until(operator.failures, now);
            }
            let locked = operator.locked_until.is_some();
            let mut changes = vec![Change::Put(Expect::Version(version), Document::of(&operator)?.into())];
            let outcome = if locked {
                tracing::warn!(operator = name, failures = operator.failures, "locked out");
                let deed = Deed {
                    act: "operator.lock_out",
                    subject: name.to_owned(),
                    branch: operator.branch.clone(),
                    detail: json!({ "failures": operator.failures, "until": operator.locked_until }),
                };
                self.commit(&Actor::of("sign-in".to_owned(), Vec::new()), &deed, changes)
                    .await
            } else {
                self.store.commit(std::mem::take(&mut changes)).await
            };
            match outcome {
                Err(StoreError::Conflict) => {}
                done => return done,
            }
        }
    }

    /// The roles, by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn roles(&self) -> Result<Vec<Role>, EstateError> {
        let query = Query::Documents {
            kind: Role::KIND,
            prefix: String::new(),
            after: None,
        };
        Ok(self.documents(&query, MAX_ROLES).await?)
    }

    /// The operators of the branches under `under` that the actor manages; those after `after` in a branch and in the order of
    /// branches and names.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn operators(
        &self,
        actor: &Actor,
        under: &BranchPath,
        after: Option<(BranchPath, String)>,
        limit: u32,
    ) -> Result<Vec<Operator>, EstateError> {
        let after = after.map(|(branch, name)| (branch.to_string(), name));
        let mut found = Vec::new();
        for scope in within(actor, Permission::ManageOperators, under) {
            let query = Query::Marked {
                kind: Operator::KIND,
                mark: "branch".to_owned(),
                prefix: scope.to_string(),
                after: after.clone(),
            };
            let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
            found.extend(self.documents::<Operator>(&query, left).await?);
        }
        Ok(found)
    }

    /// Removes an operator. What they did stays in the audit log.
    ///
    /// # Errors
    /// [`EstateError::Denied`], [`EstateError::Unknown`].
    pub async fn remove_operator(&self, actor: &Actor, name: &str) -> Result<(), EstateError> {
        let Some((version, before)) = self.entity::<Operator>(name).await? else {
            return Err(EstateError::Unknown("operator", name.to_owned()));
        };
        actor.demand(Permission::ManageOperators, &before.branch)?;
        let deed = Deed {
            act: "operator.remove",
            subject: name.to_owned(),
            branch: before.branch.clone(),
            detail: json!({ "before": before.told() }),
        };
        let change = Change::Remove(Expect::Version(version), Key::Document(Operator::KIND, name.to_owned()));
        Ok(self.commit(actor, &deed, vec![change]).await?)
    }
}

fn locked_until(failures: u32, now: u64) -> Option<u64> {
    let further = failures.checked_sub(FAILURES)?;
    let wait = LOCK_OUT.saturating_mul(1_u64.checked_shl(further.min(16)).unwrap_or(u64::MAX));
    Some(now.saturating_add(wait.min(3_600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_outs_grow_up_to_an_hour() {
        let wait = |failures| locked_until(failures, 1_000).map(|until| until - 1_000);
        assert_eq!(
            [4, 5, 6, 10, 11, 12, u32::MAX].map(wait),
            [
                None,
                Some(60),
                Some(120),
                Some(1_920),
                Some(3_600),
                Some(3_600),
                Some(3_600)
            ]
        );
    }

    #[tokio::test]
    async fn nobodys_verifier_costs_what_others_do_and_fits_nothing() {
        let nobody = Verifier::nobodys();
        let hash = PasswordHash::new(&nobody.0).unwrap();
        let mine = Verifier::of("correct horse battery", [7; 16]).await.unwrap();
        let other = PasswordHash::new(&mine.0).unwrap();
        assert_eq!((hash.algorithm, &hash.params), (other.algorithm, &other.params));
        assert!(hash.hash.is_some());
        assert!(!nobody.clone().verify("").await);
        assert!(mine.clone().verify("correct horse battery").await);
        assert!(!mine.clone().verify("correct horse batterz").await);
        assert_eq!(format!("{mine:?}"), "Verifier");
    }
}
