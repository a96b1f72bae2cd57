# The tables of DFER-CLIP (BMVC 2023) as plain fclip commands: one target a table; see common.mk for the settings.
options.dfer-clip         = --variant dfer-clip --clip $(CLIP_DFER)
# Table 1: number of context vectors x depth of the temporal transformer; 8 x 1 is dfer-clip itself
options.context-4-depth-0  = --variant dfer-clip --clip $(CLIP_DFER) --set context=4,temporal_layers=0
options.context-4-depth-1  = --variant dfer-clip --clip $(CLIP_DFER) --set context=4
options.context-4-depth-2  = --variant dfer-clip --clip $(CLIP_DFER) --set context=4,temporal_layers=2
options.context-4-depth-3  = --variant dfer-clip --clip $(CLIP_DFER) --set context=4,temporal_layers=3
options.context-8-depth-0  = --variant dfer-clip --clip $(CLIP_DFER) --set temporal_layers=0
options.context-8-depth-2  = --variant dfer-clip --clip $(CLIP_DFER) --set temporal_layers=2
options.context-8-depth-3  = --variant dfer-clip --clip $(CLIP_DFER) --set temporal_layers=3
options.context-16-depth-0 = --variant dfer-clip --clip $(CLIP_DFER) --set context=16,temporal_layers=0
options.context-16-depth-1 = --variant dfer-clip --clip $(CLIP_DFER) --set context=16
options.context-16-depth-2 = --variant dfer-clip --clip $(CLIP_DFER) --set context=16,temporal_layers=2
options.context-16-depth-3 = --variant dfer-clip --clip $(CLIP_DFER) --set context=16,temporal_layers=3
# Table 2: training strategies
options.linear-probe      = --variant linear-probe --clip $(CLIP_DFER)
options.finetune          = --variant finetune --clip $(CLIP_DFER)
options.finetune-temporal = --variant finetune --clip $(CLIP_DFER) --set temporal=true
options.coop              = --variant coop --clip $(CLIP_DFER)
options.cocoop            = --variant cocoop --clip $(CLIP_DFER)
# place of the description, shared or class-specific context; prompts
options.end-shared        = --variant dfer-clip --clip $(CLIP_DFER) --set class_specific=false
options.middle-shared     = --variant dfer-clip --clip $(CLIP_DFER) --set class_specific=false,position=middle
options.middle-specific   = --variant dfer-clip --clip $(CLIP_DFER) --set position=middle
options.a-photo-of        = --variant dfer-clip --clip $(CLIP_DFER) --set context=0,text_mode=a-photo-of
options.an-expression-of  = --variant dfer-clip --clip $(CLIP_DFER) --set context=0,text_mode=an-expression-of
options.class-name        = --variant dfer-clip --clip $(CLIP_DFER) --set text_mode=class-name
# Table 5: video networks, from pre-trained weights on real data (torchvision downloads them)
NETWORKS := r3d-18 r2plus1d-18 mc3-18 s3d resnet18-lstm resnet18-vit
START     = $(if $(DEMO),none,pretrained)
$(foreach name,$(NETWORKS),$(eval options.$(name) = --variant $(name) --clip $$(CLIP_DFER) --set weights=$$(START)))

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

DEPTHS := $(foreach context,4 8 16,$(foreach depth,0 1 2 3,context-$(context)-depth-$(depth)))
DEPTHS := $(patsubst context-8-depth-1,dfer-clip,$(DEPTHS))
STRATEGIES := linear-probe finetune finetune-temporal coop cocoop context-8-depth-0 dfer-clip
PLACES := end-shared dfer-clip middle-shared middle-specific
PROMPTS := a-photo-of an-expression-of class-name dfer-clip

.PHONY: all table1 table2 table3 table4 table5 depth strategies position prompts supervised
all: depth strategies position prompts supervised ## every table

table1: depth ## = depth
table2: strategies ## = strategies
table3: position ## = position
table4: prompts ## = prompts
table5: supervised ## = supervised

depth: $(call trained,$(DEPTHS)) ## Table 1: context vectors and depth of the temporal model
	$(call table,dfer-clip-depth,$(DEPTHS))

strategies: $(call trained,$(STRATEGIES)) ## Table 2: training strategies
	$(plain_clip)
	$(plain_farl)
	$(call table,dfer-clip-strategies,$(STRATEGIES))

position: $(call trained,$(PLACES)) ## ablation: place of the description, shared or class-specific context
	$(call table,dfer-clip-position,$(PLACES))

prompts: $(call trained,$(PROMPTS)) ## ablation: prompts
	$(call table,dfer-clip-prompts,$(PROMPTS))

supervised: $(call trained,$(NETWORKS) dfer-clip) ## Table 5: supervised video networks
	$(call table,dfer-clip-supervised,$(NETWORKS) dfer-clip)
