# The same for the digits 3 to 9 alone: a detector that will get classes.
_base_ = 'pretrain.py'

custom_imports = dict(
    imports=['mmpartinit.demo.comparison'], allow_failed_imports=False
)
seven = tuple('3456789')
model = dict(bbox_head=dict(num_classes=len(seven)))
train_dataloader = dict(dataset=dict(metainfo=dict(classes=seven)))
val_dataloader = dict(dataset=dict(metainfo=dict(classes=seven)))
val_evaluator = dict(classwise=True)
custom_hooks = [dict(type='MetricCurve')]
