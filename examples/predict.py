"""Answer texts with a bundle, and show the words that support each answer.

python examples/predict.py runs/intents/bundle-int8 "turn on the lights" "बत्ती जला दो"
"""

import sys

from saarthi_lib import Predictor
from saarthi_lib.inference.occlusion import Target, explain


def main(bundle: str, *texts: str) -> None:
    predictor = Predictor.load(bundle)  # verifies each file; threads may share it
    for answer in predictor.predict(list(texts), top_k=3):
        print(answer.text)
        if answer.abstained:
            print("  abstains: the confidence is too low")
        for label, probability in answer.top_k:
            print(f"  {probability:6.1%}  {label}")
        for span in answer.entities or answer.tokens:
            print(f"  {span.label}: {span.text} ({span.start} to {span.end})")
        targets = [Target(span.start, span.end, span.label) for span in answer.entities]
        for target in [*([None] if answer.label else []), *targets]:
            explanation = explain(predictor, answer.text, target)
            best = sorted(explanation.parts, key=lambda part: -part.evidence)[:3]
            words = ", ".join(f"{part.text} {part.evidence:+.2f}" for part in best)
            print(f"  why {explanation.label}: {words}")


if __name__ == "__main__":
    main(*sys.argv[1:])
