"""Wrong answers as a list of fixes: their cause, their rows, and one action for each.

| kind | errors |
|---|---|
| `confused` | one label, tag or entity type taken for another, missed, or found elsewhere |
| `labels` | gold labels that are probably wrong, and equal texts with different labels |
| `words` | texts with a word that no training row has |
| `language` | a language with clearly more errors than the others |
| `withheld` | right answers below the threshold, more than wrong ones |
| `other` | errors without a pattern |

Each error has one place among `confused` and `other`, and may be in the other kinds as well.
"""
