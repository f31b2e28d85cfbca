# SPDX-License-Identifier: Apache-2.0
"""Ops whose kernels compute values from their inputs and do nothing else.

Constant folding runs these and no others: what is not on the list may read
files, call Python, or make gigabytes of a few bytes, as decoders of images do.
Regular expressions are not on it either: some take for ever.
"""

from __future__ import annotations

PLAIN = frozenset(
  """
  Abs AccumulateNV2 Acos Acosh Add AddN AddV2 Angle ApproximateEqual Asin
  Asinh Atan Atan2 Atanh Betainc BitwiseAnd BitwiseOr BitwiseXor Cast Ceil
  ClipByValue Complex ComplexAbs Conj Cos Cosh Digamma Div DivNoNan Elu Equal
  Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual
  Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeakyRelu LeftShift Less
  LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum
  Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma PopulationCount Pow
  Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Select
  SelectV2 Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Square
  SquaredDifference Sub Tan Tanh ToBool TruncateDiv TruncateMod Xdivy Xlog1py
  Xlogy Zeta
  All Any ArgMax ArgMin Bincount Cumprod Cumsum CumulativeLogsumexp
  DenseBincount EuclideanNorm HistogramFixedWidth InTopK InTopKV2 L2Loss
  LogSoftmax LowerBound Max Mean Min NthElement Prod SegmentMax SegmentMean
  SegmentMin SegmentProd SegmentSum Softmax Sum TopK TopKV2 UnsortedSegmentMax
  UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum UpperBound
  BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs
  BroadcastTo Bucketize Concat ConcatOffset ConcatV2
  ConjugateTranspose DataFormatDimMap DataFormatVecPermute DepthToSpace Diag
  DiagPart DynamicPartition DynamicStitch EnsureShape ExpandDims
  ExtractImagePatches ExtractVolumePatches Fill Gather GatherNd GatherV2
  Identity IdentityN InvertPermutation LinSpace ListDiff MatrixBandPart
  MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
  MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad OneHot
  OnesLike Pack Pad PadV2 ParallelConcat ParallelDynamicStitch PreventGradient
  Range Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
  ScatterNdNonAliasingAdd Shape ShapeN Size Slice Snapshot SpaceToBatch
  SpaceToBatchND SpaceToDepth SparseToDense Split SplitV Squeeze StopGradient
  StridedSlice TensorScatterAdd TensorScatterMax TensorScatterMin
  TensorScatterSub TensorScatterUpdate Tile Transpose Unique UniqueV2
  UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex Where ZerosLike
  AvgPool AvgPool3D BatchMatMul BatchMatMulV2 BatchMatMulV3
  BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Cholesky Conv2D
  Conv2DBackpropInput Conv3D Conv3DBackpropInput Conv3DBackpropInputV2 Cross
  DepthwiseConv2dNative Dilation2D Einsum FusedBatchNorm FusedBatchNormV2
  FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D LRN
  LogMatrixDeterminant MatMul MatrixDeterminant MatrixInverse MatrixSolve
  MatrixSquareRoot MatrixTriangularSolve MaxPool MaxPool3D MaxPoolV2 Qr
  SelfAdjointEigV2 SparseMatMul SparseTensorDenseMatMul Svd
  AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize FFT FFT2D FFT3D
  HSVToRGB IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D NonMaxSuppression
  NonMaxSuppressionV2 NonMaxSuppressionV3 NonMaxSuppressionV4 RFFT RFFT2D
  RFFT3D RGBToHSV ResizeArea ResizeBicubic ResizeBilinear
  ResizeNearestNeighbor
  Dequantize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
  FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantize
  QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeDownAndShrinkRange
  QuantizeV2 QuantizedAdd QuantizedAvgPool
  QuantizedBatchNormWithGlobalNormalization QuantizedBiasAdd QuantizedConcat
  QuantizedConv2D QuantizedInstanceNorm QuantizedMatMul QuantizedMaxPool
  QuantizedMul QuantizedRelu QuantizedRelu6 QuantizedReluX QuantizedReshape
  QuantizedResizeBilinear RequantizationRange Requantize
  AsString DecodeBase64 DecodeRaw EncodeBase64 ReduceJoin StringJoin
  StringLength StringLower StringSplit StringSplitV2 StringStrip
  StringToHashBucket StringToHashBucketFast StringToHashBucketStrong
  StringToNumber StringUpper Substr UnicodeScript UnicodeTranscode
  """.split()
)
