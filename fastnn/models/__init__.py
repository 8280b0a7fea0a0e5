"""The networks of the literature, each readable in one file, built from `fastnn.nn`.

docs/models.md lists them with their papers and what they reach; `python -m fastnn run NAME` trains one on real data.
"""

from fastnn.models.alexnet import AlexNet, alexnet
from fastnn.models.captioning import Captioner
from fastnn.models.characters import CharacterGenerator
from fastnn.models.classic import MLP, DualPerceptron, Perceptron, TwoLayerPerceptron, log_likelihood, mlp, polynomial
from fastnn.models.decoder import Decoder
from fastnn.models.decoding import beam_search, greedy_search
from fastnn.models.gan import (
    GAN,
    DCGANDiscriminator,
    DCGANGenerator,
    MovingAverage,
    dcgan,
    discriminator_loss,
    generator_loss,
    value_of_game,
)
from fastnn.models.googlenet import GoogLeNet, GoogLeNetOutputs, Inception, InceptionAux, NaiveInception, googlenet
from fastnn.models.helmholtz import HelmholtzMachine
from fastnn.models.image_to_image import FiLM, ImageToImage
from fastnn.models.lenet import LeNet, lenet
from fastnn.models.memory import MemoryNetwork
from fastnn.models.naive_bayes import CategoricalNB
from fastnn.models.resnet import (
    BasicBlock,
    Bottleneck,
    PreActBlock,
    PreActBottleneck,
    ResNet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnet_cifar,
)
from fastnn.models.translation import Translator
from fastnn.models.vae import VAE, bernoulli_log_likelihood, conv_vae, gaussian_kl, gaussian_log_likelihood, vae
from fastnn.models.vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from fastnn.models.visual_questions import VisualQuestions

__all__ = [
    "GAN",
    "MLP",
    "VAE",
    "VGG",
    "AlexNet",
    "BasicBlock",
    "Bottleneck",
    "Captioner",
    "CategoricalNB",
    "CharacterGenerator",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Decoder",
    "DualPerceptron",
    "FiLM",
    "GoogLeNet",
    "GoogLeNetOutputs",
    "HelmholtzMachine",
    "ImageToImage",
    "Inception",
    "InceptionAux",
    "LeNet",
    "MemoryNetwork",
    "MovingAverage",
    "NaiveInception",
    "Perceptron",
    "PreActBlock",
    "PreActBottleneck",
    "ResNet",
    "Translator",
    "TwoLayerPerceptron",
    "VisualQuestions",
    "alexnet",
    "beam_search",
    "bernoulli_log_likelihood",
    "conv_vae",
    "dcgan",
    "discriminator_loss",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "generator_loss",
    "googlenet",
    "greedy_search",
    "lenet",
    "log_likelihood",
    "mlp",
    "polynomial",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet_cifar",
    "vae",
    "value_of_game",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]
