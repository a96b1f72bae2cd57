"""From a video to a label: python predict.py clip.mp4 [run folder]."""

import sys

import fclip

prediction = fclip.predict(sys.argv[1], checkpoint=sys.argv[2] if len(sys.argv) > 2 else None)
print(prediction.label, prediction.probabilities)
for row in prediction.rows():
    print(f"{row['start']:6.2f} - {row['end']:6.2f} s  {row['label']}")
print("rests on:", prediction.basis)
