# What the example Makefiles share: settings, the data stages, and one rule for every training run.
# Include it after naming the rows: `options.<row>` is what `fclip train` gets for a row of a table.
#
#   make -f finecliper.mk table1                        on rendered faces, small: one fold, one seed, the bundled CLIP
#   make -f finecliper.mk table1 FOLDS="1 2 3 4 5" SEEDS="0 1 2"
#   make -f finecliper.mk table1 ROOT=/data/fclip DATASET=dfew SOURCE.dfew=/data/DFEW      as the papers: five folds,
#                                                       three seeds, their hyper-parameters; -j N runs N at a time
# A table is written to $(ROOT)/tables as Markdown; ENDING=tex gives LaTeX, ENDING=html a page.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := help

FCLIP   ?= fclip
ROOT    ?= demo
DATASET ?= demo7
ENDING  ?= md
HERE    := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
DEMO    := $(filter demo7 demo11,$(DATASET))
export FCLIP_ROOT := $(ROOT)

# Rendered faces: small enough for a CPU.
ifneq ($(DEMO),)
FOLDS      ?= 1
SEEDS      ?= 0
CLIPS      ?= 350
EPOCHS     ?= 8
CLIP       ?= tiny
CLIP_DFER  ?= tiny
OTHERS     ?= $(filter-out $(DATASET),demo7 demo11)
PREPROCESS ?= --crop lite --frames 8 --size 80 --shard-size 32
FACES      ?= lite
MLLM       ?= template
else
# A real data set: the papers' settings. FERV39k has one official split.
FOLDS      ?= $(if $(filter ferv39k,$(DATASET)),1,1 2 3 4 5)
SEEDS      ?= 0 1 2
CLIP       ?= ViT-B-16
CLIP_DFER  ?= ViT-B-32
OTHERS     ?= $(filter-out $(DATASET),dfew ferv39k mafw)
# Every frame is kept, for both papers train on a random frame of each of 16 segments, drawn anew in each epoch. With
# PREPROCESS="--crop none" FRAMES= the same 16 are seen always: a quarter of the disk, twice the loader's speed.
PREPROCESS ?= --crop none --frames all
FRAMES     ?= 16
FACES      ?= mediapipe
MLLM       ?= video-llava
endif

# CAPTION: more options for the captioner. The papers' captions saw the label, test parts included; to repeat that:
# CAPTION="--prompt paper --allow-test-labels". Label-blind captions are the default, so published figures that rest on
# the others stand on lines of their own.
CAPTION ?=
# TRAIN: more options for every training run, e.g. TRAIN="--select best-on-test" to repeat the field's habit.
TRAIN  ?=
TAKE   := $(if $(FRAMES),--frames $(FRAMES))
SHORT  := $(TAKE) $(if $(EPOCHS),--epochs $(EPOCHS)) $(TRAIN)
RUNS   := $(ROOT)/runs
comma  := ,
empty  :=
SEED_LIST := $(subst $(empty) $(empty),$(comma),$(strip $(SEEDS)))
TABLES := $(ROOT)/tables

# ---- the data: each stage's target is its manifest.json -------------------------------------------------------------
ifneq ($(DEMO),)
$(ROOT)/%/source/manifest.json:
	$(FCLIP) synth --dataset $* --clips $(CLIPS)

$(ROOT)/%/frames/manifest.json: $(ROOT)/%/source/manifest.json
	$(FCLIP) preprocess --dataset $* $(PREPROCESS)
else
$(ROOT)/%/frames/manifest.json:
	$(FCLIP) preprocess --dataset $* $(if $(SOURCE.$*),--source $(SOURCE.$*)) $(PREPROCESS)
endif

$(ROOT)/%/faces/manifest.json: $(ROOT)/%/frames/manifest.json
	$(FCLIP) face-analyze --dataset $* --backend $(FACES)

$(ROOT)/%/captions/manifest.json: $(ROOT)/%/faces/manifest.json
	$(FCLIP) caption --dataset $* --mllm $(MLLM) $(CAPTION)

$(ROOT)/%/refined/manifest.json: $(ROOT)/%/captions/manifest.json
	$(FCLIP) refine --dataset $* --report

$(ROOT)/%/packed/manifest.json: $(ROOT)/%/frames/manifest.json $(ROOT)/%/faces/manifest.json $(ROOT)/%/refined/manifest.json
	$(FCLIP) pack --dataset $* $(PACK)

# The same with a data set's own captions as people wrote them, unrefined: what EmoCLIP is trained on.
$(ROOT)/%/packed-human/manifest.json: $(ROOT)/%/frames/manifest.json $(ROOT)/%/faces/manifest.json
	$(FCLIP) pack --dataset $* --captions human --out $(@D)

packed = $(ROOT)/$(1)/packed/manifest.json

# ---- the runs: $(ROOT)/runs/<data set>-<row>-fold<k>-seed<s>, one `fclip train` each ----------------------------------
run_folders = $(foreach row,$(1),$(foreach fold,$(FOLDS),$(foreach seed,$(SEEDS),$(RUNS)/$(DATASET)-$(row)-fold$(fold)-seed$(seed))))
trained = $(addsuffix /done.json,$(call run_folders,$(1)))

define run_rule
$(RUNS)/$(DATASET)-$(1)-fold$(2)-seed$(3)/done.json: $(call packed,$(DATASET))
	$$(FCLIP) train --dataset $(DATASET) --fold $(2) --seed $(3) --out $$(@D) $$(options.$(1)) $$(SHORT)
endef

# Plain CLIP, and FaRL (FARL=its converted file; without it, rendered faces take the bundled weights, real ones none).
plain_clip = $(FCLIP) zeroshot --pretrain none --test $(DATASET) --clip $(CLIP_DFER) $(TAKE)
plain_farl = $(if $(FARL)$(DEMO),$(FCLIP) zeroshot --pretrain none --test $(DATASET) --clip $(CLIP) --variant zeroshot-farl $(TAKE)$(if $(FARL), --clip-weights $(FARL)))

# $(call table,NAME,ROWS): the recipe that evaluates a table's runs and writes it
define table
	$(if $(2),$(FCLIP) eval $(call run_folders,$(2)))
	$(FCLIP) report --table $(1) --dataset $(DATASET) --out $(TABLES)/$(1).$(ENDING)
endef

# Every variable `options.<row>` set so far names a row; make its rules.
ROWS := $(patsubst options.%,%,$(filter options.%,$(.VARIABLES)))
$(foreach row,$(ROWS),$(foreach fold,$(FOLDS),$(foreach seed,$(SEEDS),$(eval $(call run_rule,$(row),$(fold),$(seed))))))

.PHONY: help
help: ## show the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(firstword $(MAKEFILE_LIST)) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'
