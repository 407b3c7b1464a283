"""A shop as tutorials have it: the engine at module level, the tables made while importing."""

import os

from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


engine = create_engine(f"postgresql+psycopg://postgres@{os.environ['POSTGRES']}/postgres")
Base.metadata.create_all(engine)
with Session(engine) as session:
    session.execute(
        text(
            "INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 300) n"
            " ON CONFLICT DO NOTHING"
        )
    )
    session.commit()

app = Flask(__name__)


@app.get("/<int:number>")
def item(number):
    with Session(engine) as session:
        return str(session.get(Item, number).id)
