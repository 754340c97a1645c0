# Data, loops and logs that the configs beside this one share.
custom_imports = dict(
    imports=['mmpartinit.demo.digits', 'mmpartinit.demo.comparison'],
    allow_failed_imports=False,
)
seed = 0  # of the split and of the run

model = dict(type='DigitsClassifier', backbone=dict(type='SmallResNet'))

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='Digits', split='train', seed=seed),
)
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Digits', split='test', seed=seed),
)
val_evaluator = dict(type='DigitsAccuracy')
val_cfg = dict()

optim_wrapper = dict(optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05))
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50), checkpoint=None
)  # the demo keeps the pretrained weights only
env_cfg = dict()  # for which MMEngine 0.8 has no default
randomness = dict(seed=seed)
