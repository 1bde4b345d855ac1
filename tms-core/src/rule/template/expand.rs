//! Variables in values: `${name}`, and `$$` for a `$`.

use super::render::FaultKind;
use super::{MAX_VALUE, is_name};
use std::collections::BTreeMap;

/// The most variables that one value may take, those within others included: bounds the work.
const MAX_STEPS: usize = 256;

/// How deep variables may name others.
const MAX_NESTING: usize = 16;

/// A value with its variables filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The variables that it took, directly or through others, each once, by name.
    pub used: Vec<String>,
}

/// Where variables come from: facts first, then what layers set.
pub(super) struct Variables<'a> {
    pub(super) facts: &'a BTreeMap<String, String>,
    pub(super) set: BTreeMap<&'a str, &'a str>,
}

impl Variables<'_> {
    pub(super) fn expand(&self, text: &str) -> Result<Expanded, FaultKind> {
        let mut run = Run {
            variables: self,
            text: String::new(),
            used: Vec::new(),
            path: Vec::new(),
            steps: 0,
        };
        run.fill(text)?;
        run.used.sort();
        run.used.dedup();
        Ok(Expanded {
            text: run.text,
            used: run.used,
        })
    }
}

struct Run<'a> {
    variables: &'a Variables<'a>,
    text: String,
    used: Vec<String>,
    path: Vec<String>,
    steps: usize,
}

impl Run<'_> {
    fn fill(&mut self, mut rest: &str) -> Result<(), FaultKind> {
        while let Some((before, after)) = rest.split_once('$') {
            self.push(before)?;
            if let Some(after) = after.strip_prefix('$') {
                self.push("$")?;
                rest = after;
                continue;
            }
            let braced = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let (name, after) = braced.ok_or(FaultKind::Syntax)?;
            if !is_name(name) {
                return Err(FaultKind::Syntax);
            }
            self.variable(name)?;
            rest = after;
        }
        self.push(rest)
    }

    fn variable(&mut self, name: &str) -> Result<(), FaultKind> {
        let through = |path: &[String]| path.iter().cloned().chain([name.to_owned()]).collect();
        if self.path.iter().any(|outer| outer == name) {
            return Err(FaultKind::Cycle {
                path: through(&self.path),
            });
        }
        self.steps += 1;
        if self.steps > MAX_STEPS || self.path.len() >= MAX_NESTING {
            return Err(FaultKind::Large);
        }
        self.used.push(name.to_owned());
        if let Some(fact) = self.variables.facts.get(name) {
            return self.push(fact);
        }
        let Some(text) = self.variables.set.get(name).copied() else {
            return Err(FaultKind::Undefined {
                path: through(&self.path),
            });
        };
        self.path.push(name.to_owned());
        self.fill(text)?;
        self.path.pop();
        Ok(())
    }

    fn push(&mut self, text: &str) -> Result<(), FaultKind> {
        if self.text.len() + text.len() > MAX_VALUE {
            return Err(FaultKind::Large);
        }
        self.text.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(facts: &[(&str, &str)], set: &[(&str, &str)], text: &str) -> Result<Expanded, FaultKind> {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let facts: BTreeMap<String, String> = own(facts);
        let set: BTreeMap<String, String> = own(set);
        let set = set.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        Variables { facts: &facts, set }.expand(text)
    }

    #[test]
    fn variables_are_filled_in() {
        let facts = [("merchant.name", "Tea $$ ${House}"), ("city", "021")];
        let set = [("host", "${region}.example.com"), ("region", "east"), ("city", "010")];
        let text = |text| expand(&facts, &set, text).map(|expanded| expanded.text);
        // Facts win, and are not looked into.
        assert_eq!(text("${city} ${merchant.name}").as_deref(), Ok("021 Tea $$ ${House}"));
        assert_eq!(text("${host}:9000").as_deref(), Ok("east.example.com:9000"));
        assert_eq!(text("5 $$ $${city}").as_deref(), Ok("5 $ ${city}"));
        assert_eq!(expand(&facts, &set, "${host}${host}").unwrap().used, ["host", "region"]);
    }

    #[test]
    fn what_cannot_be_filled_in_says_where() {
        let set = [
            ("a", "${b}"),
            ("b", "x${c}"),
            ("c", "${a}"),
            ("d", "${e}"),
            ("f", "${f}"),
        ];
        let path = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let fault = |text| expand(&[], &set, text).unwrap_err();
        assert_eq!(
            fault("${a}"),
            FaultKind::Cycle {
                path: path(&["a", "b", "c", "a"])
            }
        );
        assert_eq!(
            fault("${f}"),
            FaultKind::Cycle {
                path: path(&["f", "f"])
            }
        );
        assert_eq!(
            fault("${d}"),
            FaultKind::Undefined {
                path: path(&["d", "e"])
            }
        );
        for text in ["$", "${", "${}", "${a b}", "$a", "x${a"] {
            assert_eq!(fault(text), FaultKind::Syntax, "{text}");
        }
    }

    #[test]
    fn work_is_bounded() {
        // Ten variables, each of which names the next one a hundred times, and nothing comes out.
        let set: Vec<(String, String)> = (0..10)
            .map(|n| {
                (
                    format!("v{n}"),
                    if n == 9 {
                        String::new()
                    } else {
                        format!("${{v{}}}", n + 1).repeat(100)
                    },
                )
            })
            .collect();
        let set: Vec<(&str, &str)> = set.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(expand(&[], &set, "${v0}"), Err(FaultKind::Large));
        let long = "x".repeat(MAX_VALUE);
        assert_eq!(
            expand(&[("a", &long)], &[], "${a}"),
            Ok(Expanded {
                text: long.clone(),
                used: vec!["a".to_owned()]
            })
        );
        assert_eq!(expand(&[("a", &long)], &[], "${a}."), Err(FaultKind::Large));
    }

    proptest! {
        #[test]
        fn any_table_gives_text_or_a_fault(
            set in proptest::collection::btree_map("[abc]", "(\\$\\{[abcd]\\}|\\$\\$|x|\\$){0,4}", 0..4),
            text in "(\\$\\{[abcd]\\}|\\$\\$|y){0,6}",
        ) {
            let set: Vec<(&str, &str)> = set.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            match expand(&[], &set, &text) {
                Ok(expanded) => {
                    let expected = |letter| "xy${}abcd".contains(letter);
                    prop_assert!(expanded.text.chars().all(expected));
                    prop_assert!(!expanded.used.contains(&"d".to_owned()));
                }
                Err(FaultKind::Cycle { path }) => prop_assert_eq!(path.last().map(|last| path[..path.len() - 1].contains(last)), Some(true)),
                Err(FaultKind::Undefined { path }) => {
                    let last = path.last().unwrap().as_str();
                    prop_assert!(set.iter().all(|(name, _)| *name != last));
                }
                Err(fault) => prop_assert_eq!(fault, FaultKind::Syntax),
            }
        }
    }
}
