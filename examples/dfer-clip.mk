# The tables of DFER-CLIP (BMVC 2023) as plain fclip commands: one target a table; see common.mk for the settings.
options.dfer-clip         = --variant dfer-clip --clip $(CLIP_DFER)
# Table 1: context vectors without temporal model, then depth of the temporal transformer; 8 x 1 is dfer-clip itself.
# The rest of the grid is beyond the paper's table: target grid.
$(foreach c,4 8 16,$(eval options.context-$(c)-depth-0 = --variant dfer-clip --clip $$(CLIP_DFER) --set context=$(c),temporal_layers=0))
$(foreach c,4 8 16,$(foreach d,2 3,$(eval options.context-$(c)-depth-$(d) = --variant dfer-clip --clip $$(CLIP_DFER) --set context=$(c),temporal_layers=$(d))))
options.context-4-depth-1  = --variant dfer-clip --clip $(CLIP_DFER) --set context=4
options.context-16-depth-1 = --variant dfer-clip --clip $(CLIP_DFER) --set context=16
# Table 2: training strategies
options.linear-probe      = --variant linear-probe --clip $(CLIP_DFER)
options.finetune          = --variant finetune --clip $(CLIP_DFER)
options.finetune-temporal = --variant finetune --clip $(CLIP_DFER) --set temporal=true
options.coop              = --variant coop --clip $(CLIP_DFER)
options.cocoop            = --variant cocoop --clip $(CLIP_DFER)
# Table 3: prompts; the fixed ones have no temporal model
options.a-photo-of         = --variant dfer-clip --clip $(CLIP_DFER) --set context=0,text_mode=a-photo-of,temporal_layers=0
options.an-expression-of   = --variant dfer-clip --clip $(CLIP_DFER) --set context=0,text_mode=an-expression-of,temporal_layers=0
options.class-name-depth-0 = --variant dfer-clip --clip $(CLIP_DFER) --set text_mode=class-name,temporal_layers=0
options.class-name         = --variant dfer-clip --clip $(CLIP_DFER) --set text_mode=class-name
# Table 4: place of the description, shared or class-specific context
options.end-shared         = --variant dfer-clip --clip $(CLIP_DFER) --set class_specific=false
options.middle-shared      = --variant dfer-clip --clip $(CLIP_DFER) --set class_specific=false,position=middle
options.middle-specific    = --variant dfer-clip --clip $(CLIP_DFER) --set position=middle
# Table 5: video networks, from pre-trained weights on real data (torchvision downloads them); MC3 and S3D are not in it
NETWORKS := r3d-18 r2plus1d-18 resnet18-lstm resnet18-vit
OTHERS_3D := mc3-18 s3d
START     = $(if $(DEMO),none,pretrained)
$(foreach name,$(NETWORKS) $(OTHERS_3D),$(eval options.$(name) = --variant $(name) --clip $$(CLIP_DFER) --set weights=$$(START)))

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

DEPTHS := context-4-depth-0 context-8-depth-0 context-16-depth-0 dfer-clip context-8-depth-2 context-8-depth-3
STRATEGIES := linear-probe finetune finetune-temporal coop cocoop context-8-depth-0 dfer-clip
PROMPTS := a-photo-of an-expression-of class-name-depth-0 context-8-depth-0 class-name dfer-clip
PLACES := middle-shared middle-specific end-shared dfer-clip
GRID := $(patsubst context-8-depth-1,dfer-clip,$(foreach c,4 8 16,$(foreach d,0 1 2 3,context-$(c)-depth-$(d))))

.PHONY: all table1 table2 table3 table4 table5 depth strategies prompts position supervised extensions grid networks
all: depth strategies prompts position supervised ## every table

table1: depth ## = depth
table2: strategies ## = strategies
table3: prompts ## = prompts
table4: position ## = position
table5: supervised ## = supervised

depth: $(call trained,$(DEPTHS)) ## Table 1: context vectors and depth of the temporal model
	$(call table,dfer-clip-depth,$(DEPTHS))

strategies: $(call trained,$(STRATEGIES)) ## Table 2: training strategies
	$(plain_clip)
	$(plain_farl)
	$(call table,dfer-clip-strategies,$(STRATEGIES))

prompts: $(call trained,$(PROMPTS)) ## Table 3: prompts, with and without temporal model
	$(call table,dfer-clip-prompts,$(PROMPTS))

position: $(call trained,$(PLACES)) ## Table 4: place of the description, shared or class-specific context
	$(call table,dfer-clip-position,$(PLACES))

supervised: $(call trained,$(NETWORKS) dfer-clip) ## Table 5: state of the art
	$(call table,dfer-clip-supervised,$(NETWORKS) dfer-clip)

extensions: grid networks ## what is beyond the paper's tables

grid: $(call trained,$(GRID)) ## every number of context vectors with every depth
	$(call table,dfer-clip-grid,$(GRID))

networks: $(call trained,$(OTHERS_3D)) ## video networks that the paper does not list
	$(call table,video-networks,$(OTHERS_3D))
