"""What to do in place of a change that is refused."""

V2 = (
    "make a new topic {next} beside {topic}, written by the same events through a bridge until nobody reads "
    "the old one (docs/evolve.md)"
)
OTHER_TYPE = "Keep `{where}` and put the other type into a defaulted field beside it; or {v2}."
MISSING = {
    True: "Keep `{where}`: what was released without a default can never go. To be rid of it, {v2}.",
    False: (
        'Give `{where}` a default, such as "type": ["null", …], "default": null; a name that changes is a '
        "new defaulted field beside the old one."
    ),
}
"""For the rule `default`, by whether it is a reader of the old schema who breaks."""
ADVICE = {
    "type": OTHER_TYPE,
    "union": OTHER_TYPE,
    "size": "Keep the size, and put the other one into a defaulted field beside `{where}`; or {v2}.",
    "symbols": (
        "Keep the symbols of `{where}` and say the new word in a defaulted field beside it; or {v2}."
    ),
    "name": "Keep the name; another one is another event: {v2}.",
    "full-name": "Keep name and namespace; another one is another event: {v2}.",
    "meaning": "Keep `{where}` as it is and put the other form into a defaulted field beside it; or {v2}.",
    "text-or-bytes": OTHER_TYPE,
    "personal-data": 'Keep "pii": true on `{where}`; it may be added, never taken away.',
    "raw-default": 'Make it optional: "type": ["null", …], "default": null.',
    "still-read": (
        "Ask them first; when they read without `{where}`, take it off their fields in topic.yaml."
    ),
    "not-avro": "Mend it; nothing reads it as it is.",
    "wrong-default": "Give it a default of its type, in a union of the first one; for null that is null.",
    "immutable": (
        "Put the file back (git checkout) and write the change into the next version beside it, v<n+1>.avsc; "
        "a topic that ends is deprecated in topic.yaml first (docs/evolve.md)."
    ),
}
"""For every other rule."""


def advice(rule: str, where: str, old_reader: bool, topic: str) -> str:
    """One sentence: how to do it instead."""
    stem, _, major = topic.rpartition(".v")
    following = f"{stem}.v{int(major) + 1}" if major.isdecimal() else f"{topic}.v2"
    text = MISSING[old_reader] if rule == "default" else ADVICE[rule]
    return text.format(where=where or "the event", v2=V2.format(topic=topic, next=following))
