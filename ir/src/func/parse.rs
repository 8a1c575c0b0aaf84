//! The text form of a function.
//!
//! ```text
//! func     = "func" "@" WORD "(" [ arg { "," arg } ] ")" "->" type { "," type } "{" { result } "return" VALUE { "," VALUE } "}"
//! arg      = VALUE ":" type
//! result   = VALUE "=" ( WORD VALUE { "," VALUE } [ settings ] | "constant" type "{" [ number { "," number } ] "}" )
//!            ends its line
//! settings = "{" WORD "=" value { WORD "=" value } "}"
//! type     = WORD "[" [ NUMBER { "x" NUMBER } ] "]"
//! VALUE    = "%" ( WORD | digits )
//! ```

use std::collections::HashMap;
use std::str::FromStr;

use super::element::ElementType;
use super::error::{FuncError, FuncErrorKind};
use super::op::{Settings, TensorOp};
use super::tensor::Tensor;
use super::types::TensorType;
use super::{Builder, Def, Func, ValueId};
use crate::text::{Cursor, Pos, is_word};

/// Constants of more elements are not printed, and cannot be read.
pub(super) const MOST_ELEMENTS: u64 = 64;

impl FromStr for Func {
    type Err = FuncError;

    fn from_str(text: &str) -> Result<Self, FuncError> {
        let mut cursor = Cursor::new(text);
        if !cursor.eat_keyword("func") {
            return Err(cursor.expected("`func`").into());
        }
        let at = cursor.pos();
        let name = cursor.name('@', "the function's name, such as `@main`")?;
        if !is_word(name) {
            return Err(FuncError::at(at, FuncErrorKind::Name(name.into())));
        }
        let mut parser = Parser { cursor, builder: Func::builder(name), defined: HashMap::new() };
        parser.arguments()?;
        parser.cursor.expect("->")?;
        let mut declared = vec![parser.ty()?];
        while parser.cursor.eat(",") {
            declared.push(parser.ty()?);
        }
        parser.cursor.expect("{")?;
        while !parser.cursor.eat_keyword("return") {
            parser.result()?;
        }
        let mut returned = vec![parser.operand()?];
        while parser.cursor.eat(",") {
            returned.push(parser.operand()?);
        }
        parser.cursor.expect("}")?;
        if !parser.cursor.at_end() {
            return Err(parser.cursor.expected("end of text").into());
        }
        if returned.len() != declared.len() {
            let kind = FuncErrorKind::Returns { found: returned.len(), declared: declared.len() };
            return Err(FuncError::at(returned[0].0, kind));
        }
        for ((at, name, id), declared) in returned.iter().zip(declared) {
            let found = parser.builder.ty(*id)?;
            if *found != declared {
                let kind = FuncErrorKind::ReturnType { value: format!("%{name}"), found: found.clone(), declared };
                return Err(FuncError::at(*at, kind));
            }
        }
        let results: Vec<_> = returned.iter().map(|(.., id)| *id).collect();
        parser.builder.finish_all(&results)
    }
}

/// The numbers of texts, or the text that is none.
fn read_as<'a, T: FromStr>(texts: &[&'a str]) -> Result<Vec<T>, &'a str> {
    texts.iter().map(|text| text.parse().map_err(|_| *text)).collect()
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    builder: Builder,
    /// The values so far by their names in the text, and where they were defined.
    defined: HashMap<&'a str, (ValueId, Pos)>,
}

impl<'a> Parser<'a> {
    fn arguments(&mut self) -> Result<(), FuncError> {
        self.cursor.expect("(")?;
        if self.cursor.eat(")") {
            return Ok(());
        }
        loop {
            let (at, name) = self.new_value("an argument, such as `%x: f32[2x3]`")?;
            if !is_word(name) {
                return Err(FuncError::at(at, FuncErrorKind::Name(name.into())));
            }
            self.cursor.expect(":")?;
            let ty = self.ty()?;
            let id = self.builder.insert(Some(name), ty, Def::Argument);
            self.defined.insert(name, (id, at));
            if !self.cursor.eat(",") {
                return Ok(self.cursor.expect(")")?);
            }
        }
    }

    fn result(&mut self) -> Result<(), FuncError> {
        self.cursor.skip_to_token();
        let (at, name) = self.new_value("`return` or an operation, such as `%0 = relu %x`")?;
        self.cursor.expect("=")?;
        if self.cursor.at_end_of_line() {
            return Err(self.cursor.expected("an operation").into());
        }
        let op_at = self.cursor.pos();
        let word = self.cursor.word("an operation")?;
        let kept = Some(name).filter(|name| is_word(name));
        if word == "constant" {
            let tensor = self.constant(name, op_at)?;
            let id = self.builder.insert(kept, tensor.ty().clone(), Def::Constant(tensor.data().clone()));
            self.defined.insert(name, (id, at));
            return Ok(());
        }
        let mut operands = vec![];
        let mut settings = vec![];
        if !self.cursor.at_end_of_line() {
            operands.push(self.operand()?.2);
            while self.cursor.eat(",") {
                operands.push(self.operand()?.2);
            }
            settings = self.settings()?;
        }
        if !self.cursor.at_end_of_line() {
            return Err(self.cursor.expected("`,` or end of line").into());
        }
        let op = TensorOp::read(word, settings)
            .ok_or_else(|| FuncError::at(op_at, FuncErrorKind::UnknownOp { name: word.into() }))?
            .map_err(|e| FuncError::at(op_at, FuncErrorKind::Setting(e)))?;
        let ty = self.builder.infer(name, &op, &operands).map_err(|e| FuncError::at(op_at, e.kind))?;
        let id = self.builder.insert(kept, ty, Def::Result { op, operands });
        self.defined.insert(name, (id, at));
        Ok(())
    }

    /// Reads settings, if there are any.
    fn settings(&mut self) -> Result<Settings<'a>, FuncError> {
        let mut settings = vec![];
        if self.cursor.at_end_of_line() || !self.cursor.eat("{") {
            return Ok(settings);
        }
        while !self.cursor.eat("}") {
            let name = self.cursor.word("a setting, such as `axis=1`, or `}`")?;
            self.cursor.expect("=")?;
            settings.push((name, self.cursor.setting("a value")?));
        }
        Ok(settings)
    }

    /// Reads the type and the elements of a constant.
    fn constant(&mut self, name: &str, at: Pos) -> Result<Tensor, FuncError> {
        let fail = |why: String| FuncError::at(at, FuncErrorKind::Constant { value: format!("%{name}"), why });
        let ty = self.ty()?;
        if ty.elements() > MOST_ELEMENTS {
            return Err(fail(format!("a text has constants of at most {MOST_ELEMENTS} elements, this one is {ty}")));
        }
        self.cursor.expect("{")?;
        let mut elements = vec![];
        while !self.cursor.eat("}") {
            if !elements.is_empty() {
                self.cursor.expect(",")?;
            }
            let text = self.cursor.setting("a number")?;
            elements.push(text);
        }
        if elements.len() as u64 != ty.elements() {
            return Err(fail(format!("{} element(s) for {ty}", elements.len())));
        }
        // Double precision does not hold all integers.
        match ty.element() {
            ElementType::I64 => read_as(&elements).map(|v| Tensor::from_bits::<i64>(ty, v)),
            ElementType::U64 => read_as(&elements).map(|v| Tensor::from_bits::<u64>(ty, v)),
            // The text of a NaN has neither sign nor payload.
            _ => read_as(&elements).map(|v: Vec<f64>| {
                let canonical: Vec<f64> = v.iter().map(|v| if v.is_nan() { f64::NAN } else { *v }).collect();
                Tensor::from_f64(ty, &canonical)
            }),
        }
        .map_err(|text| fail(format!("`{text}` is not a number of this type")))
    }

    /// Reads the name of a value that is about to be defined.
    fn new_value(&mut self, what: &str) -> Result<(Pos, &'a str), FuncError> {
        let at = self.cursor.pos();
        let name = self.cursor.name('%', what)?;
        match self.defined.get(name) {
            None => Ok((at, name)),
            Some(&(_, first)) => {
                let kind = FuncErrorKind::Redefined { value: format!("%{name}"), first: Some(first) };
                Err(FuncError::at(at, kind))
            }
        }
    }

    /// Reads the name of a value that is already defined.
    fn operand(&mut self) -> Result<(Pos, &'a str, ValueId), FuncError> {
        let at = self.cursor.pos();
        let name = self.cursor.name('%', "a value, such as `%x`")?;
        match self.defined.get(name) {
            Some(&(id, _)) => Ok((at, name, id)),
            None => Err(FuncError::at(at, FuncErrorKind::Undefined(format!("%{name}")))),
        }
    }

    fn ty(&mut self) -> Result<TensorType, FuncError> {
        let at = self.cursor.pos();
        let element: ElementType = self
            .cursor
            .word("a type, such as `f32[2x3]`")?
            .parse()
            .map_err(|e| FuncError::at(at, FuncErrorKind::Element(e)))?;
        self.cursor.expect("[")?;
        let mut shape = vec![];
        if !self.cursor.eat("]") {
            loop {
                shape.push(self.cursor.number("a dimension")?);
                if !self.cursor.eat("x") {
                    break;
                }
            }
            self.cursor.expect("]")?;
        }
        TensorType::new(element, shape).map_err(|e| FuncError::at(at, e))
    }
}
