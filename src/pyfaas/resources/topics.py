"""Topics: ``topic("receipts")`` names one; a message goes to all who have subscribed when it is published."""

from __future__ import annotations

from typing import Any, NamedTuple

from pyfaas import _port
from pyfaas._payload import packed, unpacked
from pyfaas.options import flag, refuse
from pyfaas.resources.handles import (
    Attributes,
    Handle,
    check_attributes,
    check_size,
    fields_of,
    text_of,
)
from pyfaas.resources.queues import Queue, check_queue
from pyfaas.triggers import TopicTrigger, checked_pattern, topic_rule


class Publication(NamedTuple):
    """A message for a topic."""

    message: str
    subject: str | None
    attributes: Attributes


class Topic(Handle):
    """A topic; see ``topic``."""

    kind = "topic"

    def publish(self, message: Any, *, subject: str | None = None, attributes: Attributes | None = None) -> str:
        """
        Hand a message to every function and queue that has subscribed, and give its id.

        It is with all of them once this returns, or with none. ``message``: text, or anything that JSON can hold;
        ``subject``: up to 100 characters; ``attributes``: up to 10 names with text, numbers or bytes.

        Raises ConfigurationError, InvalidEvent, PayloadTooLarge and StoreUnavailable.
        """
        return _port.current().send(self, _publication(message, subject, attributes))  # type: ignore[no-any-return]

    async def apublish(self, message: Any, *, subject: str | None = None, attributes: Attributes | None = None) -> str:
        """Do the same from async code."""
        return await _port.current().asend(self, _publication(message, subject, attributes))  # type: ignore[no-any-return]

    @staticmethod
    def told(what: Publication) -> dict[str, Any]:
        """Write down what is to be published."""
        return {**what._asdict(), "attributes": packed(what.attributes)}

    def heard(self, told: Any) -> Publication:
        """Read it again."""
        fields = fields_of(told, Publication)
        return _publication(fields["message"], fields["subject"], unpacked(fields["attributes"]))

    def messages(self, *, filter: Any = None, filter_on: str = "attributes") -> TopicTrigger:  # noqa: A002 - SNS's word
        """
        Make a trigger: the function gets each message, one a time, ``{"Records": [...]}`` as of SNS.

        ``filter``: a pattern that the message's attributes must fit, or, with ``filter_on="body"``, its JSON (AWS:
        FilterPolicy, FilterPolicyScope).
        """
        return TopicTrigger(self, *_checked_filter(filter, filter_on))

    def subscribe(
        self,
        to: Queue,
        *,
        filter: Any = None,  # noqa: A002
        filter_on: str = "attributes",
        raw: bool = False,
    ) -> None:
        """
        Have each message put into a queue, too, by every runtime that opens from now on, and by those that are open.

        ``raw``: the message as it was published, with its attributes, not in the envelope of SNS (AWS:
        RawMessageDelivery). Saying it again changes the filter.
        """
        check_queue("to", to, fifo=False)
        flag("raw", raw)
        wanted, on = _checked_filter(filter, filter_on)
        fed[self.path, to.path] = {**topic_rule(wanted, on), "raw": raw, "delay": to.delay}
        _port.declared_more()

    def as_trigger(self) -> TopicTrigger:
        """What ``trigger=receipts`` means."""
        return self.messages()


# Which queues topics feed, and which archives buses, by what rule: {(its path, the other's path): rule}.
fed: dict[tuple[str, str], dict[str, Any]] = {}


def topic(name: str) -> Topic:
    """Name a topic: a handle to publish to, and a trigger (``trigger=receipts`` is ``receipts.messages()``)."""
    return Topic(name)


def _publication(message: Any, subject: Any, attributes: Attributes | None) -> Publication:
    if subject is not None and not (isinstance(subject, str) and 0 < len(subject) <= 100 and subject.isprintable()):
        raise refuse("subject", subject, "1 to 100 printable characters, or None")
    check_attributes(attributes)
    text = text_of("message", message)
    check_size("message", text, attributes)
    return Publication(text, subject, attributes or {})


def _checked_filter(pattern: Any, on: str) -> tuple[str | None, str]:
    if on not in ("attributes", "body"):
        raise refuse("filter_on", on, "'attributes' or 'body'")
    return (None if pattern is None else checked_pattern("filter", pattern)), on
