//! Affine expressions: a constant plus variables with constant coefficients.

/// A loop variable: an index into the nest's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Var(pub u16);

/// `constant + sum of coefficient * variable`. Terms are sorted by variable and have non-zero coefficients, so equal
/// expressions are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// The constant.
    pub constant: i64,
    terms: Vec<(Var, i64)>,
}

impl Affine {
    /// A constant.
    pub fn constant(constant: i64) -> Self {
        Self { constant, terms: vec![] }
    }

    /// The variables with their coefficients, by variable.
    pub fn terms(&self) -> &[(Var, i64)] {
        &self.terms
    }

    /// The coefficient of `var`; 0 if it does not occur.
    pub fn coefficient(&self, var: Var) -> i64 {
        self.terms.iter().find(|t| t.0 == var).map_or(0, |t| t.1)
    }

    /// Adds `coefficient * var`.
    pub fn add_term(&mut self, var: Var, coefficient: i64) {
        match self.terms.binary_search_by_key(&var, |t| t.0) {
            Ok(i) => {
                self.terms[i].1 += coefficient;
                if self.terms[i].1 == 0 {
                    self.terms.remove(i);
                }
            }
            Err(i) if coefficient != 0 => self.terms.insert(i, (var, coefficient)),
            Err(_) => {}
        }
    }

    /// Adds `factor * other`; `None` where that leaves the range of i64, and then `self` is of no use.
    pub fn checked_add(&mut self, other: &Affine, factor: i64) -> Option<()> {
        self.constant = self.constant.checked_add(other.constant.checked_mul(factor)?)?;
        for &(var, c) in &other.terms {
            let (old, added) = (self.coefficient(var), c.checked_mul(factor)?);
            old.checked_add(added)?;
            self.add_term(var, added);
        }
        Some(())
    }

    /// [`substitute`](Self::substitute) where it stays in the range of i64.
    pub fn checked_substitute(mut self, var: Var, value: &Affine) -> Option<Self> {
        let c = self.coefficient(var);
        self.terms.retain(|t| t.0 != var);
        self.checked_add(value, c)?;
        Some(self)
    }

    /// Replaces `var` by `value`.
    pub fn substitute(&mut self, var: Var, value: &Affine) {
        let c = self.coefficient(var);
        if c != 0 {
            self.add_term(var, -c);
            self.constant += c * value.constant;
            for &(v, k) in &value.terms {
                self.add_term(v, c * k);
            }
        }
    }

    /// `self + factor * other`.
    pub fn plus(&self, other: &Affine, factor: i64) -> Self {
        let mut sum = self.clone();
        sum.constant += factor * other.constant;
        other.terms.iter().for_each(|&(v, c)| sum.add_term(v, factor * c));
        sum
    }

    /// `self / factor` where all coefficients and the constant are multiples of it.
    pub fn divided(&self, factor: i64) -> Option<Self> {
        let divides = self.constant % factor == 0 && self.terms.iter().all(|(_, c)| c % factor == 0);
        let terms = self.terms.iter().map(|&(v, c)| (v, c / factor)).collect();
        divides.then_some(Self { constant: self.constant / factor, terms })
    }

    /// The value under an assignment of the variables.
    pub fn eval(&self, value: impl Fn(Var) -> i64) -> i64 {
        self.terms.iter().fold(self.constant, |sum, &(v, c)| sum + c * value(v))
    }
}

impl From<Var> for Affine {
    fn from(var: Var) -> Self {
        Self { constant: 0, terms: vec![(var, 1)] }
    }
}
