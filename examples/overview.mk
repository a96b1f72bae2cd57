# All methods on one data set in one table with intervals: `make -f overview.mk table`, on demo7 over its five folds.
#   make -f overview.mk table SEEDS="0 1 2"              means and deviations over seeds too
# A run that is finished is kept, one that was cut off goes on: run the same command again.
options.signals      = --variant signals
options.base         = --variant base --clip $(CLIP)
options.star         = --variant star --clip $(CLIP)
options.dagger       = --variant dagger --clip $(CLIP)
options.star-dagger  = --variant star-dagger --clip $(CLIP)
options.dfer-clip    = --variant dfer-clip --clip $(CLIP_DFER)
options.linear-probe = --variant linear-probe --clip $(CLIP_DFER)
options.coop         = --variant coop --clip $(CLIP_DFER)
options.cocoop       = --variant cocoop --clip $(CLIP_DFER)

FOLDS ?= 1 2 3 4 5
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

METHODS := signals linear-probe coop cocoop dfer-clip base star dagger star-dagger
PLAIN := $(RUNS)/none-to-$(DATASET)-zeroshot-clip-fold*-seed0

.PHONY: table
table: $(call trained,$(METHODS)) ## every method, supervised, and plain CLIP: $(ROOT)/tables/overview.md and .html
	$(plain_clip)
	$(FCLIP) eval $(call run_folders,$(METHODS))
	$(FCLIP) report $(call run_folders,$(METHODS)) $(PLAIN) --out $(TABLES)/overview.md
	$(FCLIP) report $(call run_folders,$(METHODS)) $(PLAIN) --out $(TABLES)/overview.html
