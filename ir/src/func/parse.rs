//! The text form of a function.
//!
//! ```text
//! func   = "func" "@" WORD "(" [ arg { "," arg } ] ")" "->" type "{" { result } "return" VALUE "}"
//! arg    = VALUE ":" type
//! result = VALUE "=" WORD VALUE { "," VALUE }      ends its line
//! type   = WORD "[" [ NUMBER { "x" NUMBER } ] "]"
//! VALUE  = "%" ( WORD | digits )
//! ```

use std::collections::HashMap;
use std::str::FromStr;

use super::error::{FuncError, FuncErrorKind};
use super::op::TensorOp;
use super::types::TensorType;
use super::{Builder, Def, Func, ValueId};
use crate::dtype::DType;
use crate::text::{Cursor, Pos, is_word};

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
        let declared = parser.ty()?;
        parser.cursor.expect("{")?;
        while !parser.cursor.eat_keyword("return") {
            parser.result()?;
        }
        let (at, name, result) = parser.operand()?;
        parser.cursor.expect("}")?;
        if !parser.cursor.at_end() {
            return Err(parser.cursor.expected("end of text").into());
        }
        let found = parser.builder.ty(result)?;
        if *found != declared {
            let kind = FuncErrorKind::ReturnType { value: format!("%{name}"), found: found.clone(), declared };
            return Err(FuncError::at(at, kind));
        }
        parser.builder.finish(result)
    }
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
        let op = TensorOp::from_name(word)
            .ok_or_else(|| FuncError::at(op_at, FuncErrorKind::UnknownOp { name: word.into() }))?;
        let mut operands = vec![];
        if !self.cursor.at_end_of_line() {
            operands.push(self.operand()?.2);
            while self.cursor.eat(",") {
                operands.push(self.operand()?.2);
            }
        }
        if !self.cursor.at_end_of_line() {
            return Err(self.cursor.expected("`,` or end of line").into());
        }
        let ty = self.builder.infer(name, op, &operands).map_err(|e| FuncError::at(op_at, e.kind))?;
        let kept = Some(name).filter(|name| is_word(name));
        let id = self.builder.insert(kept, ty, Def::Result { op, operands });
        self.defined.insert(name, (id, at));
        Ok(())
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
        let dtype: DType = self
            .cursor
            .word("a type, such as `f32[2x3]`")?
            .parse()
            .map_err(|e| FuncError::at(at, FuncErrorKind::DType(e)))?;
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
        TensorType::new(dtype, shape).map_err(|e| FuncError::at(at, e))
    }
}
