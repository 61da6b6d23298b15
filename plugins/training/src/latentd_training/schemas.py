"""Bodies and replies; the fields of ``/sdapi/v1`` are AUTOMATIC1111's of early 2023 and of 1.8."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from latentd.api import LenientBool, LenientFloat, LenientInt, LenientModel, LenientSeed, LenientStr

Count = Annotated[LenientInt, Field(ge=1)]
Every = Annotated[LenientInt, Field(ge=0)]
Share = Annotated[LenientFloat, Field(ge=0, le=1)]
Side = Annotated[LenientInt, Field(ge=64, le=8192)]
Numbers = Annotated[list[LenientFloat], Field(max_length=64)] | LenientStr

_EXAMPLE: dict[str, JsonValue] = {"data_root": "cats", "steps": 1000, "learn_rate": "0.005:100, 1e-3:1000, 1e-5"}


class Body(LenientModel):
    """A body in which null is as good as a field left out."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: JsonValue) -> JsonValue:
        return {key: one for key, one in value.items() if one is not None} if isinstance(value, dict) else value


class CreateEmbedding(Body):
    """Body of ``/sdapi/v1/create/embedding``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "my-cat", "num_vectors_per_token": 4}]})

    name: LenientStr = Field(description="What prompts call it; letters, digits, '.', '_', '-' and spaces are kept.")
    num_vectors_per_token: Annotated[LenientInt, Field(ge=1, le=75)] = Field(1, description="Its length in tokens.")
    overwrite_old: LenientBool = Field(False, description="Replace a file of that name.")
    init_text: LenientStr = Field("*", description="Words whose vectors it begins with; empty for zeros.")


class CreateHypernetwork(Body):
    """Body of ``/sdapi/v1/create/hypernetwork``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "my-style", "layer_structure": "1, 2, 1"}]})

    name: LenientStr = Field(description="What prompts call it.")
    enable_sizes: Annotated[list[Annotated[LenientInt, Field(ge=1, le=16384)]], Field(max_length=64)] | None = Field(
        None, description="Context widths it acts on (768, 320, 640, 1280); by default all that the model has."
    )
    overwrite_old: LenientBool = Field(False, description="Replace a file of that name.")
    layer_structure: Numbers | None = Field("1, 2, 1", description="Widths of the layers as multiples, a list or text.")
    activation_func: LenientStr | None = Field(None, description="linear, relu, leakyrelu, elu, swish, tanh ...")
    weight_init: LenientStr | None = Field(
        None, description="Normal, XavierUniform, XavierNormal, KaimingUniform or KaimingNormal."
    )
    add_layer_norm: LenientBool = Field(False, description="A layer norm after each layer.")
    use_dropout: LenientBool = Field(False, description="Drop-out while it is trained.")
    dropout_structure: Numbers | None = Field(
        None, description="Shares dropped after each layer, a list or text as layer_structure; the first is 0."
    )
    seed: LenientSeed = Field(-1, description="Of its first weights; -1 for a new one each time.")


class PreviewFields(Body):
    """What pictures along the way show."""

    create_image_every: Every = Field(500, description="Steps between previews; 0 for none.")
    preview_from_txt2img: LenientBool = Field(False, description="Draw by the fields preview_..., not the last prompt.")
    preview_prompt: LenientStr = Field("", description="Prompt of previews.")
    preview_negative_prompt: LenientStr = Field("", description="Negative prompt of previews.")
    preview_steps: Count = Field(20, description="Sampling steps of previews.")
    preview_sampler_name: LenientStr = Field("Euler", description="A name of /sdapi/v1/samplers.")
    preview_sampler_index: LenientInt | LenientStr | None = Field(
        None, description="Early 2023: its place in that list, or its name."
    )
    preview_cfg_scale: LenientFloat = Field(7, description="CFG scale of previews.")
    preview_seed: LenientSeed = Field(-1, description="Seed of previews; -1 takes that of the training.")
    preview_width: LenientInt = Field(512, description="Width of previews in pixels.")
    preview_height: LenientInt = Field(512, description="Height of previews in pixels.")


class TrainFields(PreviewFields):
    """What all trainings take."""

    data_root: LenientStr = Field(description="Folder of pictures, inside --training-dir (the data folder's train).")
    log_directory: LenientStr = Field(
        "textual_inversion", description="Folder for logs and saves along the way, likewise."
    )
    template_filename: LenientStr = Field(
        "style_filewords.txt", description="Prompt template: subject.txt, style.txt ... with [name] and [filewords]."
    )
    steps: Annotated[LenientInt, Field(ge=1, le=100_000_000)] = Field(1000, description="Steps in all runs together.")
    batch_size: Annotated[LenientInt, Field(ge=1, le=1024)] = Field(1, description="Pictures at once.")
    gradient_step: Annotated[LenientInt, Field(ge=1, le=4096)] = Field(1, description="Batches a step.")
    training_width: Side = Field(512, description="Width of the pictures in pixels.")
    training_height: Side = Field(512, description="Height of the pictures in pixels.")
    varsize: LenientBool = Field(False, description="Each picture keeps its own size.")
    clip_grad_mode: Literal["disabled", "value", "norm"] = Field("disabled", description="How gradients are clipped.")
    clip_grad_value: LenientStr = Field("0.1", description="The bound, or a schedule as learn_rate.")
    shuffle_tags: LenientBool = Field(False, description="Shuffle a caption's tags, parted by commas.")
    tag_drop_out: Share = Field(0, description="Share of tags that are left out.")
    latent_sampling_method: Literal["once", "deterministic", "random"] = Field(
        "once", description="Latents are drawn once, are the mean, or are drawn anew each time."
    )
    use_weight: LenientBool = Field(False, description="A picture's alpha weighs its loss.")
    seed: LenientSeed = Field(-1, description="Makes a run repeatable; -1 for a new one each time.")
    validate_every: Every = Field(
        0, description="Steps between measurements of the loss on held-out noise, begun and ended with one; 0 for none."
    )


class TrainEmbedding(TrainFields):
    """Body of ``/sdapi/v1/train/embedding``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"embedding_name": "my-cat", **_EXAMPLE}]})

    id_task: LenientStr = Field("", description="The client's own id for the job.")
    embedding_name: LenientStr = Field(description="A name of /sdapi/v1/embeddings.")
    learn_rate: LenientStr = Field("0.005", description='A number, or with steps "0.005:100, 1e-3:1000, 1e-5".')
    save_embedding_every: Every = Field(500, description="Steps between saves along the way; 0 for none.")
    save_image_with_stored_embedding: LenientBool = Field(True, description="Hide the last save in a preview.")


class TrainHypernetwork(TrainFields):
    """Body of ``/sdapi/v1/train/hypernetwork``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hypernetwork_name": "my-style", **_EXAMPLE}]})

    id_task: LenientStr = Field("", description="The client's own id for the job.")
    hypernetwork_name: LenientStr = Field(description="A name of /sdapi/v1/hypernetworks.")
    learn_rate: LenientStr = Field("0.00001", description='A number, or with steps "5e-5:100, 1e-5:1000, 1e-6".')
    template_filename: LenientStr = Field(
        "hypernetwork.txt", description="Prompt template; hypernetwork.txt fills captions into a few words."
    )
    save_hypernetwork_every: Every = Field(500, description="Steps between saves along the way; 0 for none.")


class TrainLora(TrainFields):
    """Body of ``/latentd/v1/train/lora``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "my-cat", "rank": 16, **_EXAMPLE, "learn_rate": "1e-4"}]}
    )

    id_task: LenientStr = Field("", description="The client's own id for the job.")
    name: LenientStr = Field(description="What prompts call it: <lora:name:1>.")
    resume: LenientBool = Field(False, description="Go on from the file of that name.")
    overwrite_old: LenientBool = Field(False, description="Replace a file of that name.")
    checkpoint: LenientStr | None = Field(None, description="Train with this checkpoint, not the selected one.")
    rank: Annotated[LenientInt, Field(ge=1, le=512)] = Field(16, description="Rank of the changes.")
    alpha: Annotated[LenientFloat, Field(gt=0, le=10_000)] | None = Field(
        None, description="Its quotient with rank scales the changes; by default that is 1."
    )
    targets: list[Literal["attention", "feed_forward", "projection", "convolution"]] = Field(
        ["attention", "feed_forward", "projection"], description="Kinds of layers that change.", min_length=1
    )
    train_text_encoder: LenientBool = Field(False, description="Change the text encoders, too.")
    text_learn_rate_factor: Annotated[LenientFloat, Field(gt=0, le=100)] = Field(
        1, description="Their learning rate as a multiple of learn_rate."
    )
    dropout: Annotated[LenientFloat, Field(ge=0, lt=1)] = Field(0, description="Share of what enters a change.")
    learn_rate: LenientStr = Field("1e-4", description='A number, or with steps "2e-4:100, 1e-4:1000, 5e-5".')
    template_filename: LenientStr = Field("captions.txt", description="Prompt template; captions.txt takes captions.")
    optimizer: LenientStr = Field("AdamW", description="An optimiser of torch: AdamW, Adam, RAdam, SGD ...")
    weight_decay: Annotated[LenientFloat, Field(ge=0, le=1)] | None = Field(None, description="The optimiser's.")
    save_every: Every = Field(500, description="Steps between saves along the way; 0 for none.")
    save_precision: Literal["float", "fp16", "bf16"] = Field("float", description="Of the file's numbers.")


class Preprocess(Body):
    """Body of ``/sdapi/v1/preprocess``."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"process_src": "raw", "process_dst": "cats"}]})

    id_task: LenientStr = Field("", description="The client's own id for the job.")
    process_src: LenientStr = Field(description="Folder of pictures, inside --training-dir.")
    process_dst: LenientStr = Field(description="Folder to write to, likewise; made if missing.")
    process_width: Side = Field(512, description="Width in pixels.")
    process_height: Side = Field(512, description="Height in pixels.")
    preprocess_txt_action: Literal["ignore", "copy", "prepend", "append"] = Field(
        "ignore", description="What becomes of the text beside a picture, beside or in place of a caption."
    )
    process_flip: LenientBool = Field(False, description="Mirrored copies, too.")
    process_split: LenientBool = Field(False, description="Split oblong pictures into several.")
    process_caption: LenientBool = Field(False, description="Captions by the interrogator clip.")
    process_caption_deepbooru: LenientBool = Field(False, description="Captions by the interrogator deepdanbooru.")
    split_threshold: Share = Field(0.5, description="How oblong a picture must be to be split.")
    overlap_ratio: Annotated[LenientFloat, Field(ge=0, le=0.9)] = Field(0.2, description="How far parts overlap.")
    process_focal_crop: LenientBool = Field(False, description="Cut about what stands out.")
    process_focal_crop_face_weight: Share = Field(0.9, description="Without effect: faces are not looked for.")
    process_focal_crop_entropy_weight: Share = Field(0.3, description="How much detail counts.")
    process_focal_crop_edges_weight: Share = Field(0.5, description="How much edges count.")
    process_focal_crop_debug: LenientBool = Field(False, description="Not offered.")
    process_multicrop: LenientBool = Field(False, description="To the size that fits each picture best.")
    process_multicrop_mindim: Side = Field(384, description="Least side of such a size.")
    process_multicrop_maxdim: Side = Field(768, description="Greatest side.")
    process_multicrop_minarea: Count = Field(64 * 64, description="Least area in pixels.")
    process_multicrop_maxarea: Count = Field(640 * 640, description="Greatest area.")
    process_multicrop_objective: Literal["Maximize area", "Minimize error"] = Field(
        "Maximize area", description="Which of the sizes that fit."
    )
    process_multicrop_threshold: Share = Field(0.1, description="How far a proportion may be off.")


class PreprocessResponse(BaseModel):
    """Reply of ``/sdapi/v1/preprocess``."""

    info: str = Field(description="preprocess complete")
    warnings: list[str] | None = Field(None, description="What was asked for and does not act; left out if none.")


class CreateResponse(BaseModel):
    """Reply of the create endpoints."""

    info: str = Field(description="What became of it, with the file's path.")
    warnings: list[str] | None = Field(None, description="What was asked for and does not act; left out if none.")


class TrainResponse(BaseModel):
    """Reply of the train endpoints."""

    info: str = Field(description="What became of it, with the file's path.")
    warnings: list[str] | None = Field(None, description="What was asked for and does not act; left out if none.")
