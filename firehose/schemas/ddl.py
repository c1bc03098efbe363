"""Columns out of Hive's `CREATE TABLE`, as Hive, Athena and Glue print it and people keep it.

Only the columns are read. Those of `PARTITIONED BY` stand in the objects' names and not in the objects, and what
follows (row format, location, properties) is about files that others write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from firehose import hive_type
from firehose.table_schema import TableSchema

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)"
    r"|`(?P<quoted>(?:[^`]|``)+)`"
    r"|(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\")"
    r"|(?P<word>[^\s`'\"<>(),:;=.]+)"
    r"|(?P<sign>[<>(),:;=.])",
    re.DOTALL,
)
CONSTRAINTS = ("CONSTRAINT", "PRIMARY", "FOREIGN", "UNIQUE", "CHECK")  # of a table, among its columns
SAME = {"double precision": "double"}  # types of two words


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the statement. `kind` is word, quoted (in backticks), text (a literal) or sign."""

    kind: str
    text: str
    line: int

    def says(self, *words: str) -> bool:
        return self.kind in ("word", "sign") and self.text.upper() in words

    @property
    def spelled(self) -> str:
        """As a type is written."""
        return f"`{self.text.replace('`', '``')}`" if self.kind == "quoted" else self.text


END = Token("end", "the end", 0)


def parse(text: str) -> TableSchema:
    """The columns of the one table that the text creates. Raises ValueError with the line."""
    tokens = list(_tokens(text))
    starts = [at for at, token in enumerate(tokens) if token.says("CREATE") and _creates_table(tokens[at + 1 : at + 4])]
    if not starts:
        raise ValueError("there is no CREATE TABLE in it")
    if len(starts) > 1:
        raise ValueError(f"line {tokens[starts[1]].line}: creates a second table; keep one table in a file")
    reader = _Reader(tokens[starts[0] :])
    columns = list(reader.columns())
    return TableSchema(tuple((name, _type(name, words, line)) for name, words, line in columns))


def _creates_table(tokens: list[Token]) -> bool:
    """Whether TABLE is all that is created, external or for a while."""
    words = [token for token in tokens if not token.says("EXTERNAL", "TEMPORARY", "TRANSACTIONAL")]
    return bool(words) and words[0].says("TABLE")


def _tokens(text: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {line}: {text[at : at + 20].splitlines()[0]!r} is not closed")
        if (kind := str(match.lastgroup)) != "space":
            said = match[kind]
            yield Token(kind, said.replace("``", "`") if kind == "quoted" else said, line)
        line += match[0].count("\n")
        at = match.end()


def _type(name: str, words: str, line: int) -> hive_type.HiveType:
    try:
        return hive_type.parse(SAME.get(words.lower(), words))
    except ValueError as error:
        raise ValueError(f"line {line}: column {name!r}: {error}") from None


class _Reader:
    """The statement's tokens, one by one."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def columns(self) -> Iterator[tuple[str, str, int]]:
        """Name, type and line of each column."""
        name = self._table()
        if not self._peek().says("("):
            raise self._wrong(f"the table {name} has no list of columns: '(' is missing")
        while not self._take().says(")"):
            if self._peek().says(*CONSTRAINTS):
                self._skipped_to_the_next()
                continue
            column, line = self._name("a column's name"), self._tokens[self._at - 1].line
            yield column, self._type_words(), line
            self._about_the_column()
            if not self._peek().says(",", ")"):
                raise self._wrong(f"',' or ')' is missing behind column {column!r}")

    def _table(self) -> str:
        """Passes over the statement's beginning, up to the table's name."""
        while not self._take().says("TABLE"):
            pass
        if self._peek().says("IF"):
            self._at += 3  # IF NOT EXISTS
        name = self._name("the table's name")
        while self._peek().says("."):
            self._at += 1
            name = f"{name}.{self._name('the table name')}"
        return name

    def _type_words(self) -> str:
        """The type as text, up to what else is said of the column. Comments of struct fields are left out."""
        text, depth = "", 0
        while (token := self._peek()) is not END:
            if depth == 0 and (token.says(",", ")", "COMMENT", "NOT", "DEFAULT", *CONSTRAINTS) or token.kind == "text"):
                break
            self._at += 1
            depth += token.says("<", "(") - token.says(">", ")")
            if token.says("COMMENT") and self._peek().kind == "text":
                self._at += 1
            else:
                apart = token.kind != "sign" and text[-1:] not in ("", *"<(,:")
                text += f" {token.spelled}" if apart else token.spelled
        return text

    def _about_the_column(self) -> None:
        """Passes over a comment and constraints."""
        while not self._peek().says(",", ")") and self._peek() is not END:
            if not self._peek().says("COMMENT", "NOT", "DEFAULT", *CONSTRAINTS):
                raise self._wrong("a type, a comment or a constraint is expected")
            if self._peek().says("COMMENT"):
                self._at += 1
                if self._peek().kind != "text":
                    raise self._wrong("the comment's text, in quotes, is missing")
                self._at += 1
            else:
                self._skipped_to_the_next()

    def _skipped_to_the_next(self) -> None:
        depth = 0
        while (token := self._peek()) is not END and (depth or not token.says(",", ")")):
            depth += token.says("(") - token.says(")")
            self._at += 1

    def _name(self, what: str) -> str:
        if self._peek().kind not in ("word", "quoted"):
            raise self._wrong(f"{what} is missing")
        return self._take().text

    def _peek(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else END

    def _take(self) -> Token:
        token = self._peek()
        if token is END:
            raise self._wrong("the statement is not complete")
        self._at += 1
        return token

    def _wrong(self, what: str) -> ValueError:
        token = self._peek() if self._peek() is not END else self._tokens[-1]
        return ValueError(f"line {token.line}, at {token.text!r}: {what}")
