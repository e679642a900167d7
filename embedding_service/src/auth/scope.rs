//! What a caller may do: a small set of scopes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One thing that a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Embed texts.
    Embed,
    /// Look: the models, metrics, the contract.
    ModelsRead,
    /// Compare models, which keeps the machine busy.
    Benchmark,
    /// Everything.
    Admin,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Embed, Self::ModelsRead, Self::Benchmark, Self::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embed => "embed",
            Self::ModelsRead => "models:read",
            Self::Benchmark => "benchmark",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A name that is no scope's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of the scopes {}, got another word of {length} bytes", names(Scope::ALL))]
pub struct UnknownScope {
    /// Its length; the word itself is not repeated, for it may be a key at the wrong place.
    length: usize,
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == name).ok_or(UnknownScope { length: name.len() })
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether what needs `scope` is allowed. `admin` allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether all that `asked` allows is allowed.
    pub fn cover(self, asked: Self) -> bool {
        self.allow(Scope::Admin) || asked.0 & !self.0 == 0
    }

    /// What both sets allow.
    pub fn and(self, other: Self) -> Self {
        match (self.allow(Scope::Admin), other.allow(Scope::Admin)) {
            (true, _) => other,
            (_, true) => self,
            (false, false) => Self(self.0 & other.0),
        }
    }

    fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// Reads names, as requests and options have them.
    pub fn read<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownScope> {
        names.into_iter().map(Scope::from_str).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// With spaces between, as OAuth writes them.
impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.iter().map(Scope::name).collect::<Vec<_>>().join(" "))
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::name))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Self::read(names.iter().map(String::as_str)).map_err(serde::de::Error::custom)
    }
}

fn names(scopes: impl IntoIterator<Item = Scope>) -> String {
    scopes.into_iter().map(Scope::name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> Scopes {
        Scopes::read(names.split_whitespace()).unwrap()
    }

    #[test]
    fn admin_allows_everything_and_the_others_themselves() {
        for scope in Scope::ALL {
            assert!(set("admin").allow(scope));
            assert_eq!(set("embed").allow(scope), scope == Scope::Embed);
            assert!(!Scopes::default().allow(scope));
        }
        assert!(set("admin").cover(set("embed benchmark")));
        assert!(!set("embed").cover(set("embed admin")));
        assert!(set("embed").cover(Scopes::default()));
    }

    #[test]
    fn what_two_sets_allow_is_never_more_than_one_of_them() {
        assert_eq!(set("admin").and(set("embed")), set("embed"));
        assert_eq!(set("embed models:read").and(set("admin")), set("embed models:read"));
        assert_eq!(set("embed models:read").and(set("models:read benchmark")), set("models:read"));
        assert_eq!(set("models:read embed").to_string(), "embed models:read");
    }

    #[test]
    fn a_key_at_the_wrong_place_is_not_repeated() {
        let error = Scopes::read(["vek_secret"]).unwrap_err().to_string();
        assert!(error.contains("embed, models:read, benchmark, admin") && !error.contains("secret"), "{error}");
    }
}
