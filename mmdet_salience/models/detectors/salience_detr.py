"""Salience DETR (CVPR 2024): the order of its steps.

Shapes: B images, L levels, N tokens of all levels, C channels, Q queries, K classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import DINO
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample, OptSampleList, SampleList
from torch import Tensor, nn

from ...utils.checkpoints import convert_in_place
from ..layers.canvas import per_canvas
from ..layers.decoder import hide_queries
from ..layers.geometry import BatchGeometry
from ..layers.precision import full_precision
from ..layers.tokens import (
    FeatureTokens,
    flatten_features,
    gather_tokens,
    join_levels,
    split_levels,
)
from .class_following import ClassFollowing
from .level_check import check_levels
from .outputs import (
    DecodedQueries,
    EncodedTokens,
    InitialQueries,
    SalienceInspection,
    TwoStageOutput,
)


@MODELS.register_module()
class SalienceDETR(ClassFollowing, DINO):
    """DINO with salience-guided filtering of tokens and without redundant queries.

    The steps are mmdet's: ``pre_transformer`` (tokens), ``forward_encoder`` (salience, filtering
    encoder, fusion), ``pre_decoder`` (two-stage queries), ``forward_decoder``.

    Args:
        salience_predictor: Config of the module that scores the tokens.
        token_fusion: Config of the module that fuses the encoder's maps; None for none.
        query_selection: Config of the task module that picks the queries.
        feature_strides: Pixels per cell of each level of the neck's output, finest first.
        independent_training: Whether an image is independent of the others in its batch in training
            too. False trains padded batches as the release: salience is averaged over the padding,
            and the largest budgets of the batch are everyone's. Prediction is always independent,
            and batches of equal sizes are the same either way.
        **kwargs: Arguments of mmdet's ``DINO``. ``encoder``, ``decoder`` and
            ``positional_encoding`` are built from the registry.
    """

    # As in mmdet, each of these holds its config until _init_layers builds the module.
    positional_encoding: Any
    encoder: Any
    decoder: Any
    salience_predictor: Any
    token_fusion: Any
    query_selection: Any

    def __init__(
        self,
        *args: Any,
        salience_predictor: dict,
        query_selection: dict,
        token_fusion: dict | None = None,
        feature_strides: Sequence[int] = (8, 16, 32, 64),
        independent_training: bool = True,
        **kwargs: Any,
    ) -> None:
        self.independent_training = independent_training
        self.salience_predictor = salience_predictor
        self.token_fusion = token_fusion
        self.query_selection = query_selection
        self.feature_strides = tuple(feature_strides)
        super().__init__(*args, num_feature_levels=len(self.feature_strides), **kwargs)

    def _init_layers(self) -> None:
        """Build everything but backbone, neck and head."""
        self.positional_encoding = MODELS.build(self.positional_encoding)
        self.encoder = MODELS.build(self.encoder)
        self.decoder = MODELS.build(self.decoder)
        self.embed_dims = self.encoder.embed_dims
        self.salience_predictor = MODELS.build(self.salience_predictor)
        self.token_fusion = MODELS.build(self.token_fusion) if self.token_fusion else None
        self.query_selection = TASK_UTILS.build(self.query_selection)
        self.level_embed = nn.Parameter(torch.randn(len(self.feature_strides), self.embed_dims))
        self.memory_trans_fc = nn.Linear(self.embed_dims, self.embed_dims)
        self.memory_trans_norm = nn.LayerNorm(self.embed_dims)
        self.query_embedding = nn.Embedding(self.num_queries, self.embed_dims)
        check_levels(self)

    def init_weights(self) -> None:
        """Initialise as the release (spec section 13).

        That is as DINO, but for normal query contents, uniform background tables and zero biases
        of the memory projection and of the query-position head. The head sees to its own.
        """
        super().init_weights()
        nn.init.normal_(self.query_embedding.weight)
        nn.init.zeros_(self.memory_trans_fc.bias)
        for layer in self.decoder.ref_point_head.layers:
            nn.init.zeros_(layer.bias)
        background = getattr(self.encoder, 'background_embedding', None)
        if background is not None:
            background.reset_parameters()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        """Accept the authors' checkpoints, and other classes, wherever weights are loaded."""
        convert_in_place(state_dict, self, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    # ------------------------------------------------------------------ image to tokens

    def batch_geometry(self, batch_data_samples: SampleList) -> BatchGeometry:
        """Sizes of a batch from its samples' ``img_shape`` and ``batch_input_shape``."""
        return BatchGeometry.from_images(
            [sample.img_shape for sample in batch_data_samples],
            batch_data_samples[0].batch_input_shape,
            self.feature_strides,
            getattr(self.data_preprocessor, 'pad_size_divisor', 1),
            shared=self.training and not self.independent_training,
        )

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detect objects.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes and scale factors.
            rescale: Whether boxes are in pixels of the original images.

        Returns:
            The samples with ``pred_instances``.
        """
        head_inputs = self.decode(batch_inputs, batch_data_samples).head_inputs
        results = self.bbox_head.predict(
            **head_inputs, rescale=rescale, batch_data_samples=batch_data_samples
        )
        return self.add_pred_to_datasample(batch_data_samples, results)

    def extract_canvas_feat(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> tuple[Tensor, ...]:
        """Extract features so that no image feels the padding of a larger batch-mate.

        Images of equal canvas go through backbone and neck together; a batch of equal sizes is one
        call.

        Args:
            batch_inputs: (B, 3, H, W).
            batch_data_samples: Samples with image sizes.

        Returns:
            Features (B, C, H_l, W_l) of each level, zero outside an image's canvas.
        """
        geometry = self.batch_geometry(batch_data_samples)
        crops = [(canvas,) for canvas in geometry.canvas_shapes]
        return per_canvas(
            lambda images: self.extract_feat(*images), [batch_inputs], crops, geometry.level_shapes
        )

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: OptSampleList = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the raw outputs (``mode='tensor'``), those that :meth:`predict` starts from.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes; None: the images have no padding.

        Returns:
            Class logits (layers, B, Q, K) and boxes (cx, cy, w, h) in 0..1, (layers, B, Q, 4).
        """
        samples = batch_data_samples or unpadded_samples(batch_inputs)
        return self.bbox_head(**self.decode(batch_inputs, samples).head_inputs)

    def decode(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> DecodedQueries:
        """Run all steps before the head, without denoising queries.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes.

        Returns:
            The result of each step.
        """
        features = self.extract_canvas_feat(batch_inputs, batch_data_samples)
        encoder_inputs, decoder_inputs = self.pre_transformer(features, batch_data_samples)
        encoded: EncodedTokens = self.forward_encoder(**encoder_inputs)['encoded']
        two_stage = self.select_queries(encoded)
        queries, head_inputs = self.prepare_queries(encoded, two_stage)
        head_inputs.update(self.forward_decoder(**decoder_inputs, **queries))
        return DecodedQueries(encoded, two_stage, head_inputs)

    def pre_transformer(
        self, mlvl_feats: Sequence[Tensor], batch_data_samples: OptSampleList = None
    ) -> tuple[dict, dict]:
        """Flatten the feature maps into tokens.

        Args:
            mlvl_feats: Features (B, C, H, W) of each level.
            batch_data_samples: Samples with image sizes.

        Returns:
            Inputs of :meth:`forward_encoder` and of :meth:`forward_decoder`.
        """
        geometry = self.batch_geometry(batch_data_samples)
        tokens = flatten_features(mlvl_feats, geometry, self.positional_encoding, self.level_embed)
        decoder_inputs = dict(
            memory_mask=tokens.padding_mask,
            spatial_shapes=tokens.spatial_shapes,
            level_start_index=tokens.level_start_index,
            valid_ratios=tokens.valid_ratios,
            canvas_ratios=tokens.canvas_ratios,
        )
        return dict(tokens=tokens), decoder_inputs

    # ------------------------------------------------------------------ tokens to memory

    def forward_encoder(self, tokens: FeatureTokens) -> dict:
        """Score the tokens, encode the salient ones and fuse the levels.

        Args:
            tokens: Tokens of the batch.

        Returns:
            ``encoded``, an :class:`EncodedTokens`.
        """
        projected = self.project_memory(tokens.feat + tokens.pos, tokens.invalid)
        salience = full_precision(self.salience_predictor, projected, tokens.geometry)
        output = self.encoder(tokens, salience, self.ranking_branches)
        memory = self.fuse_levels(output.memory, tokens.geometry)
        return dict(encoded=EncodedTokens(tokens, salience, output, memory))

    def project_memory(self, memory: Tensor, invalid: Tensor) -> Tensor:
        """Zero invalid tokens and project; shared by salience and two-stage output.

        Args:
            memory: (B, N, C).
            invalid: True for padded tokens and tokens with an invalid proposal, (B, N).

        Returns:
            (B, N, C).
        """
        memory = memory.masked_fill(invalid[..., None], 0)
        return self.memory_trans_norm(self.memory_trans_fc(memory))

    @property
    def two_stage_branches(self) -> tuple[nn.Module, nn.Module]:
        """Class and box branch of the two-stage output, the head's last ones."""
        return self.bbox_head.cls_branches[-1], self.bbox_head.reg_branches[-1]

    @property
    def ranking_branches(self) -> list[nn.Module]:
        """For each encoder layer the class branch that ranks its tokens: the two-stage one."""
        return [self.two_stage_branches[0]] * self.encoder.num_layers

    def fuse_levels(self, memory: Tensor, geometry: BatchGeometry) -> Tensor:
        """Fuse the encoder's output across levels.

        Args:
            memory: (B, N, C).
            geometry: Sizes of the batch.

        Returns:
            (B, N, C).
        """
        if self.token_fusion is None:
            return memory
        maps = split_levels(memory, geometry.level_shapes)
        if self.training:  # batch norm wants the whole batch
            return join_levels(self.token_fusion(maps))
        return join_levels(
            per_canvas(self.token_fusion, maps, geometry.canvas_level_shapes, geometry.level_shapes)
        )

    # ------------------------------------------------------------------ memory to queries

    def pre_decoder(
        self, encoded: EncodedTokens, batch_data_samples: OptSampleList = None
    ) -> tuple[dict, dict]:
        """Pick the initial queries and add denoising queries in training.

        Args:
            encoded: What the encoder returned.
            batch_data_samples: Samples, in training with ``gt_instances``.

        Returns:
            Inputs of :meth:`forward_decoder` and of the head.
        """
        return self.prepare_queries(encoded, self.select_queries(encoded), batch_data_samples)

    def select_queries(self, encoded: EncodedTokens) -> TwoStageOutput:
        """Classify all tokens, pick queries and predict their boxes.

        Args:
            encoded: What the encoder returned.

        Returns:
            The two-stage output of the picked tokens.
        """
        tokens = encoded.tokens
        class_branch, box_branch = self.two_stage_branches
        memory = self.project_memory(encoded.memory, tokens.invalid)
        logits = full_precision(class_branch, memory)
        selection = self.query_selection(
            logits.max(dim=-1).values, tokens.padding_mask, tokens.geometry, self.num_queries
        )
        boxes = full_precision(box_branch, gather_tokens(memory, selection.indices))
        boxes = boxes + gather_tokens(tokens.proposals, selection.indices)
        return TwoStageOutput(selection, gather_tokens(logits, selection.indices), boxes)

    def prepare_queries(
        self,
        encoded: EncodedTokens,
        two_stage: TwoStageOutput,
        batch_data_samples: OptSampleList = None,
    ) -> tuple[dict, dict]:
        """Give the initial queries their content; put denoising queries before them in training.

        Args:
            encoded: What the encoder returned.
            two_stage: The initial queries.
            batch_data_samples: Samples, in training with ``gt_instances``; None for no denoising.

        Returns:
            Inputs of :meth:`forward_decoder` and of the head.
        """
        query_mask = two_stage.selection.padding_mask
        boxes = two_stage.box_logits.detach()
        num_queries = boxes.size(1)
        query = self.query_embedding.weight[None, :num_queries].expand(len(boxes), -1, -1)
        attn_mask, head_inputs = None, {}
        if self.training and batch_data_samples is not None:
            dn_query, dn_boxes, attn_mask, dn_meta = self.dn_query_generator(batch_data_samples)
            num_total = dn_meta['num_denoising_queries'] + num_queries
            attn_mask = attn_mask[:num_total, :num_total]
            # Without any object the label embedding would get no gradient, which stops DDP.
            no_gradient = 0.0 * self.dn_query_generator.label_embedding.weight.sum()
            query = torch.cat((dn_query, query + no_gradient), dim=1)
            boxes = torch.cat((dn_boxes, boxes), dim=1)
            if query_mask is not None:
                query_mask = F.pad(query_mask, (num_total - num_queries, 0), value=False)
            head_inputs = dict(
                enc_outputs_class=two_stage.logits,
                enc_outputs_coord=two_stage.box_logits.sigmoid(),
                dn_meta=dn_meta,
                salience=encoded.salience,
            )
        if query_mask is not None:
            attn_mask = hide_queries(attn_mask, query_mask, self.decoder.num_heads)
        decoder_inputs = dict(
            query=query,
            memory=encoded.memory,
            reference_points=boxes.sigmoid(),
            dn_mask=attn_mask,
        )
        return decoder_inputs, dict(query_mask=query_mask, **head_inputs)

    # ------------------------------------------------------------------ looking inside

    @torch.no_grad()
    def initial_queries(
        self, batch_inputs: Tensor, batch_data_samples: SampleList
    ) -> InitialQueries:
        """Find the tokens that become queries; in evaluation mode.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes.

        Returns:
            The tokens before and after redundancy removal.
        """
        features = self.extract_canvas_feat(batch_inputs, batch_data_samples)
        encoder_inputs, _ = self.pre_transformer(features, batch_data_samples)
        encoded: EncodedTokens = self.forward_encoder(**encoder_inputs)['encoded']
        selection = self.select_queries(encoded).selection
        return InitialQueries(
            selection.candidates[:, : self.num_queries],
            selection.indices,
            selection.padding_mask,
            encoded.tokens.geometry.level_shapes,
            (batch_inputs.size(2), batch_inputs.size(3)),
        )

    @torch.no_grad()
    def inspect(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SalienceInspection:
        """Detect objects and keep what led to them; in evaluation mode.

        Args:
            batch_inputs: Normalised images padded to one size, (B, 3, H, W).
            batch_data_samples: Samples with image sizes and scale factors.
            rescale: Whether boxes are in pixels of the original images.

        Returns:
            Salience, tokens, queries, layer outputs and detections.
        """
        encoded, two_stage, head_inputs = self.decode(batch_inputs, batch_data_samples)
        logits, boxes = self.bbox_head(**head_inputs)
        results = self.bbox_head.predict(
            **head_inputs, rescale=rescale, batch_data_samples=batch_data_samples
        )
        return SalienceInspection(
            salience=tuple(level.squeeze(1) for level in encoded.salience),
            token_selection=encoded.encoder.selection,
            encoder_memory=encoded.encoder.memory,
            memory=encoded.memory,
            two_stage=two_stage,
            logits=logits,
            boxes=boxes,
            detections=self.add_pred_to_datasample(batch_data_samples, results),
            geometry=encoded.tokens.geometry,
        )


def unpadded_samples(batch_inputs: Tensor) -> SampleList:
    """Samples of images (B, 3, H, W) that fill the whole batch."""
    size = (batch_inputs.size(2), batch_inputs.size(3))
    metainfo = dict(img_shape=size, batch_input_shape=size)
    return [DetDataSample(metainfo=metainfo) for _ in range(batch_inputs.size(0))]
