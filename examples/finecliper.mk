# The tables of FineCLIPER (MM 2024) as plain fclip commands: one target a table; see common.mk for the settings.
# A row's options; rows of several tables are trained once.
options.base            = --variant base --clip $(CLIP)
options.star            = --variant star --clip $(CLIP)
options.dagger          = --variant dagger --clip $(CLIP)
options.star-dagger     = --variant star-dagger --clip $(CLIP)
options.dfer-clip       = --variant dfer-clip --clip $(CLIP_DFER)
options.emoclip-supervised = --variant emoclip --clip $(CLIP_DFER) --set objective=labels
# Table 4, semantic levels; Table 5, parsing and landmarks
options.middle          = --variant star --clip $(CLIP) --set frames_level=false
options.high            = --variant dagger --clip $(CLIP) --set frames_level=false
options.with-parsing    = --variant star --clip $(CLIP) --set landmarks=false
options.with-landmarks  = --variant star --clip $(CLIP) --set parsing=false
# Table 6, adapters and label texts ("positive" is without negative texts); Table 7, the negative word; Table 9, s of Eq. 7
options.text-positive   = --variant base --clip $(CLIP) --set texts=positive,video_adapters=false
options.text-both       = --variant base --clip $(CLIP) --set video_adapters=false
options.video-only      = --variant base --clip $(CLIP) --set text_adapters=none
options.negative-less   = --variant base --clip $(CLIP) --set negative_word=less
options.scale-0.3       = --variant base --clip $(CLIP) --set scale=0.3
options.scale-0.7       = --variant base --clip $(CLIP) --set scale=0.7
# Table 8, other backbones, on real data only: the bundled CLIP has one size
options.star-dagger-small = --variant star-dagger --clip ViT-B-32
options.star-dagger-large = --variant star-dagger --clip ViT-L-14
# Fig. 8: the video weight fixed, the rest split evenly over parsing, landmarks and caption
VIDEO := 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9
$(foreach w,$(VIDEO),$(eval options.video-$(w) = --variant star-dagger --clip $$(CLIP) --set fusion_weights=video=$(w)))

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

LARGE := $(if $(DEMO),,star-dagger-large)
SMALL := $(if $(DEMO),,star-dagger-small)
OURS := base star dagger star-dagger
SUPERVISED := dfer-clip emoclip-supervised $(OURS)

.PHONY: all table1 table2 table3 table4 table5 table6 table7 table8 table9 figure5 figure6 figure7 figure8 figure9 page captioners
.PHONY: supervised per-class zero-shot levels middle adapters negative-word scale backbones fusion
all: supervised per-class zero-shot levels middle adapters negative-word scale backbones fusion ## every table

table1: supervised ## = supervised
table2: per-class ## = per-class
table3: zero-shot ## = zero-shot
table4: levels ## = levels
table5: middle ## = middle
table6: adapters ## = adapters
table7: negative-word ## = negative-word
table8: backbones ## = backbones
table9: scale ## = scale
figure5: page ## = page: similarities to positive and negative texts
figure6: page ## = page: attention of the same clips
figure7: page ## = page: parameters against WAR
figure8: fusion ## = fusion

supervised: $(call trained,$(SUPERVISED)) ## Table 1: the four variants, DFER-CLIP and EmoCLIP, supervised
	$(call table,finecliper-supervised,$(SUPERVISED))

per-class: $(call trained,$(OURS)) ## Table 2: recall of each class
	$(call table,finecliper-classes,$(OURS))

# The source of a transfer is trained on its fold 1 and tested on every fold of DATASET; trained on DATASET itself it is
# in-domain, fold by fold. MAFW (here demo11) has captions by people and is the source of EmoCLIP; from DFEW and FERV39k
# the paper transfers to one another only. Captions of the tested clips stay unread; TEST_CAPTIONS=--use-captions reads
# them (the paper's sentence can mean either; so both figures exist side by side).
WRITTEN := $(if $(DEMO),demo11,mafw)
SOURCES := $(WRITTEN) $(if $(filter $(WRITTEN),$(DATASET)),,$(if $(DEMO),demo7,dfew ferv39k))
TEST_CAPTIONS ?=
define transfer
	$(FCLIP) zeroshot --pretrain $(1) --test $(DATASET) --variant $(2) --clip $(3) --seed $(SEED_LIST) $(4) $(SHORT)

endef
people = --in $(ROOT)/$(WRITTEN)/packed-human
zero-shot: $(foreach set,$(sort $(DATASET) $(SOURCES)),$(call packed,$(set))) $(ROOT)/$(WRITTEN)/packed-human/manifest.json ## Table 3: zero-shot transfer to DATASET
	$(plain_clip)
	$(plain_farl)
	$(call transfer,$(WRITTEN),emoclip,$(CLIP_DFER),--objective labels)
	$(call transfer,$(WRITTEN),emoclip,$(CLIP_DFER),$(people))
	$(call transfer,$(WRITTEN),dagger,$(CLIP),$(people) $(TEST_CAPTIONS))
	$(foreach source,$(SOURCES),$(call transfer,$(source),dagger,$(CLIP),$(TEST_CAPTIONS)))
	$(foreach source,$(SOURCES),$(call transfer,$(source),dagger,$(CLIP),--objective captions $(TEST_CAPTIONS)))
	$(call table,finecliper-zeroshot)

levels: $(call trained,base middle high star-dagger) ## Table 4: low, middle and high semantic level
	$(call table,finecliper-levels,base middle high star-dagger)

middle: $(call trained,base with-parsing with-landmarks star) ## Table 5: parsing and landmarks
	$(call table,finecliper-middle,base with-parsing with-landmarks star)

adapters: $(call trained,dfer-clip text-positive text-both video-only base) ## Table 6: adapters of text and video, label texts
	$(call table,finecliper-adapters,dfer-clip text-positive text-both video-only base)

negative-word: $(call trained,negative-less base) ## Table 7: "no" or "less" in the negative texts
	$(call table,finecliper-negative-word,negative-less base)

scale: $(call trained,scale-0.3 base scale-0.7) ## Table 9: s of Eq. 7
	$(call table,finecliper-scale,scale-0.3 base scale-0.7)

backbones: $(call trained,$(SMALL) star-dagger $(LARGE)) ## Table 8: backbones
	$(call table,finecliper-backbones,$(SMALL) star-dagger $(LARGE))

FIXED := $(VIDEO:%=video-%)
fusion: $(call trained,star-dagger $(FIXED)) ## Fig. 8: the video weight fixed at 0.1 to 0.9 against adaptive weights
	$(call table,finecliper-fusion,star-dagger $(FIXED))
	$(FCLIP) report $(call run_folders,star-dagger $(FIXED)) --out $(TABLES)/figure8.html

# Fig. 9: the same clips described by every video model whose weights are here (fclip caption --mllm list), by a simple
# prompt. MLLMS="video-llava qwen3-vl" chooses; where none is, the one that MLLM names.
COMPARED ?= 14
FOUND = $(shell $(FCLIP) caption --mllm list 2>/dev/null | awk '$$2 == "ready" && $$1 !~ /^(template|human|openai)$$/ {print $$1}')
MLLMS ?= $(or $(FOUND),$(MLLM))
define describe
	$(FCLIP) caption --dataset $(DATASET) --mllm $(1) $(if $(filter template human,$(1)),,--prompt simple) --limit $(COMPARED) --out $(ROOT)/$(DATASET)/captions-$(1)-simple

endef
figure9: captioners ## = captioners
captioners: $(ROOT)/$(DATASET)/faces/manifest.json ## Fig. 9: video models side by side, the facial parts that each names
	$(foreach m,$(MLLMS),$(call describe,$(m)))
	$(FCLIP) report --dataset $(DATASET) --captions $(subst $(empty) $(empty),$(comma),$(strip $(foreach m,$(MLLMS),$(ROOT)/$(DATASET)/captions-$(m)-simple))) --clips $(COMPARED) --out $(TABLES)/figure9.$(ENDING)

page: $(call trained,$(OURS)) ## Figs. 5, 6 and 7: one HTML page of all that is evaluated, with explanations
	$(FCLIP) eval $(call run_folders,$(OURS))
	$(FCLIP) report --dataset $(DATASET) --explain 14 --attention --out $(TABLES)/report.html
