# From labelled pictures or videos of people to a table of methods with intervals, people kept apart:
#
#   make -f real-faces.mk table SOURCE=/data/faces/labels.csv
#   make -f real-faces.mk table SOURCE=/data/clips.csv FRAMES=16 CLIP=ViT-B-16 MLLM=video-llava      videos, as the papers
#
# SOURCE: a CSV file with the columns path, label, identity and, if the split is given, part (train, test). Without that
# column the people are dealt to five folds: FOLDS="1 2 3 4 5". CLASSES: those to keep, with commas [all]; MOST: clips of
# a class outside the test part at most. The bundled `tiny` has learned the labels of the people named in its model card
# (docs/networks.md): pictures of them belong into the training part.
# The table and a page with recall, confusions and examples are written to $(ROOT)/tables.
ROOT       ?= people
DATASET    ?= people
CLIP       ?= tiny
FRAMES     ?= 1
FACES      ?= mediapipe
MLLM       ?= template
PREPROCESS ?= --crop $(FACES) --frames $(FRAMES)
FOLDS      ?= 1
SEEDS      ?= 0
MOST       ?= 500
CLASSES    ?=

METHODS := signals signals-probe linear-probe base star dagger star-dagger
options.signals       = --variant signals
options.signals-probe = --variant signals-probe --clip $(CLIP)
options.linear-probe  = --variant linear-probe --clip $(CLIP) $(GRADIENTS)
options.base          = --variant base --clip $(CLIP) $(GRADIENTS)
options.star          = --variant star --clip $(CLIP) $(GRADIENTS)
options.dagger        = --variant dagger --clip $(CLIP) $(GRADIENTS)
options.star-dagger   = --variant star-dagger --clip $(CLIP) $(GRADIENTS)
GRADIENTS = --balance

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

$(ROOT)/chosen.csv: $(SOURCE)
	python3 $(HERE)/choose_clips.py $< $@ --most $(MOST) $(if $(CLASSES),--classes $(CLASSES))

$(ROOT)/$(DATASET)/frames/manifest.json: $(ROOT)/chosen.csv
	$(FCLIP) preprocess --dataset csv --source $< --name $(DATASET) $(PREPROCESS)

.PHONY: table
table: $(call trained,$(METHODS)) ## all methods on people: $(ROOT)/tables/people.md and .html
	$(FCLIP) eval $(call run_folders,$(METHODS))
	$(FCLIP) report $(call run_folders,$(METHODS)) --out $(TABLES)/people.md
	$(FCLIP) report $(call run_folders,$(METHODS)) --out $(TABLES)/people.html
