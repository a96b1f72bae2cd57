# The whole pipeline on rendered faces, as plain fclip commands: read it as the tutorial.
#   make -j2 -f demo.mk             everything, into ./demo, two commands at a time
#   make -j2 -f demo.mk CLIPS=70 CLIPS11=60 EPOCHS=2    smaller
# Each stage's target is its manifest.json, so make runs only what is missing; fclip itself resumes inside a stage.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

FCLIP  ?= fclip
ROOT   ?= demo
CLIPS  ?= 280
CLIPS11 ?= 165
EPOCHS ?= 4
SEED   ?= 0
VARIANTS ?= signals base star dagger star-dagger dfer-clip
D7     := $(ROOT)/demo7
D11    := $(ROOT)/demo11
export FCLIP_ROOT := $(ROOT)
export OMP_NUM_THREADS ?= 1

.PHONY: all
all: $(ROOT)/report.html
	@echo; echo "demo: done. Open $(ROOT)/report.html"

# 1. Two data sets of rendered faces: real H.264 files, labels, five identity-disjoint folds.
$(ROOT)/%/source/manifest.json:
	@echo "== $*: rendering clips"
	$(FCLIP) synth --dataset $* --clips $(if $(findstring 11,$*),$(CLIPS11),$(CLIPS)) --seed $(SEED)

# 2. Decode, find the face, crop it, 8 frames of 80 x 80 a clip (16 of 224 x 224 for CLIP's own models).
$(ROOT)/%/frames/manifest.json: $(ROOT)/%/source/manifest.json
	@echo "== $*: frames"
	$(FCLIP) preprocess --dataset $* --crop lite --frames 8 --size 80 --shard-size 32

# 3. Parsing and landmarks of every frame, by the small bundled network.
$(ROOT)/%/faces/manifest.json: $(ROOT)/%/frames/manifest.json
	@echo "== $*: faces"
	$(FCLIP) face-analyze --dataset $* --backend lite --preview 4

# 4. Captions, and what is left after refinement: demo7's describe the movement of landmarks and never saw the label;
#    demo11 brings captions like those that people wrote for MAFW, which name emotions.
$(ROOT)/%/captions/manifest.json: $(ROOT)/%/faces/manifest.json
	@echo "== $*: captions"
	$(FCLIP) caption --dataset $* --mllm $(if $(findstring 11,$*),human,template) --workers 1

$(ROOT)/%/refined/manifest.json: $(ROOT)/%/captions/manifest.json
	@echo "== $*: refinement, and how much the captions give away"
	$(FCLIP) refine --dataset $* --report --workers 1

# 5. One set of shards with everything that training reads.
$(ROOT)/%/packed/manifest.json: $(ROOT)/%/frames/manifest.json $(ROOT)/%/faces/manifest.json $(ROOT)/%/refined/manifest.json
	@echo "== $*: packing"
	$(FCLIP) pack --dataset $* --workers 1

# 6. Train each variant on fold 1: the baseline `signals` (no CLIP, no epochs), the others with the rates that fclip has for
#    the tiny CLIP. EPOCHS=8 gives the figures of the README.
$(ROOT)/runs/demo7-%-fold1-seed$(SEED)/done.json: $(D7)/packed/manifest.json
	@echo "== training $*"
	$(FCLIP) train --dataset demo7 --variant $* --seed $(SEED) $(if $(filter-out signals,$*),--clip tiny --epochs $(EPOCHS))

# 7. Evaluate on the test part; transfer: plain CLIP, and training on demo11 without seeing a label of demo7.
FOLDERS := $(VARIANTS:%=$(ROOT)/runs/demo7-%-fold1-seed$(SEED))
$(ROOT)/evaluated: $(FOLDERS:%=%/done.json)
	@echo "== evaluation on the test part"
	$(FCLIP) eval $(FOLDERS)
	@touch $@

$(ROOT)/transferred: $(D7)/packed/manifest.json $(D11)/packed/manifest.json
	@echo "== zero-shot: plain CLIP, and trained on demo11"
	$(FCLIP) zeroshot --pretrain none --test demo7 --clip tiny
	$(FCLIP) zeroshot --pretrain demo11 --test demo7 --clip tiny --variant dagger --epochs $(EPOCHS) --seed $(SEED)
	@touch $@

# 8. One self-contained page of everything above, and why some test clips were classified as they were.
$(ROOT)/report.html: $(ROOT)/evaluated $(ROOT)/transferred
	@echo "== report"
	$(FCLIP) report --out $@ --explain 7

.SECONDARY:
