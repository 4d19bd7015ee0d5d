"""Few-shot action recognition as a competent user writes it in an afternoon, with transformers, peft and PyAV alone.

    python straight.py --image-tower DIR --text-tower DIR --root DIR --train A.csv --test B.csv --pair dora+adapter

One run is one cell: train on the clips of one list, test on those of the other, print JSON. Lists have the columns path
and label. In full precision; each clip is decoded every time it is wanted; prompts have 77 tokens at every step. Towers
that are frozen run without gradients, and testing runs in inference mode.

It is what the package is measured against, so nothing of the package is used here.
"""

import time

BEGUN = time.perf_counter()

import argparse  # noqa: E402
import csv  # noqa: E402
import json  # noqa: E402
import math  # noqa: E402
import random  # noqa: E402
import warnings  # noqa: E402
from contextlib import nullcontext  # noqa: E402
from pathlib import Path  # noqa: E402

import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from transformers import AutoModel, AutoTokenizer, CLIPTextModelWithProjection  # noqa: E402

warnings.filterwarnings("ignore")
TEMPLATE = "a video of a person {}."


# --- data ------------------------------------------------------------------------------------------------------------


class Clips(Dataset):
    """Clips of a list, decoded whenever one is asked for: float (T, 3, S, S), normalised, and the label."""

    def __init__(self, args, path, labels, training):
        with open(path, newline="") as file:
            self.rows = [(Path(args.root) / row["path"], labels.index(row["label"])) for row in csv.DictReader(file)]
        said = json.loads((Path(args.image_tower) / "preprocessor_config.json").read_text())
        self.mean = torch.tensor(said["image_mean"]).view(3, 1, 1)
        self.std = torch.tensor(said["image_std"]).view(3, 1, 1)
        self.args, self.training = args, training

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        path, label = self.rows[index]
        frames, size = read_clip(path, self.args.frames, round(self.args.size * 8 / 7), self.training), self.args.size
        height, width = frames.shape[1:3]
        if self.training:
            top, left = random.randint(0, height - size), random.randint(0, width - size)
        else:
            top, left = (height - size) // 2, (width - size) // 2
        frames = frames[:, top : top + size, left : left + size]
        if self.training and self.args.flip and random.random() < 0.5:
            frames = frames[:, :, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        return (pixels / 255 - self.mean) / self.std, label


def read_clip(path, wanted, short_side, training):
    """A frame of each of T equal segments: a random one in training, else its centre. Only those are converted."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        places = [random.random() if training else 0.5 for _ in range(wanted)]
        places = [int((segment + place) * stream.frames / wanted) for segment, place in enumerate(places)]
        scale = short_side / min(stream.height, stream.width)
        size = {"width": round(stream.width * scale), "height": round(stream.height * scale)}
        found = {}
        for number, frame in enumerate(container.decode(stream)):
            if number in places:
                found[number] = frame.to_ndarray(format="rgb24", **size)
            if number >= places[-1]:
                break
    last = max(found)  # some files hold fewer frames than their header says
    return np.stack([found.get(place, found[last]) for place in places])


# --- methods ---------------------------------------------------------------------------------------------------------


class Bottleneck(nn.Module):
    """Down, ReLU, up; the second half starts at zero."""

    def __init__(self, width, hidden=64):
        super().__init__()
        self.down, self.up = nn.Linear(width, hidden), nn.Linear(hidden, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return self.up(functional.relu(self.down(x)))


class ParallelAdapter(nn.Module):
    """AdaptFormer: a bottleneck beside the MLP."""

    def __init__(self, mlp, width):
        super().__init__()
        self.mlp, self.adapter = mlp, Bottleneck(width)

    def forward(self, x):
        return self.mlp(x) + 0.1 * self.adapter(x)


class SerialAdapter(nn.Module):
    """Pfeiffer's adapter: a bottleneck after the MLP."""

    def __init__(self, mlp, width):
        super().__init__()
        self.mlp, self.adapter = mlp, Bottleneck(width)

    def forward(self, x):
        x = self.mlp(x)
        return x + self.adapter(x)


class DeepPrompts(nn.Module):
    """VPT-deep: fresh prompt tokens behind CLS before every layer."""

    def __init__(self, layers, width, length=10):
        super().__init__()
        self.length = length
        self.prompts = nn.Parameter(torch.empty(len(layers), length, width).uniform_(-0.1, 0.1))
        for number, layer in enumerate(layers):
            layer.register_forward_pre_hook(lambda _, given, number=number: (self.put(given[0], number), *given[1:]))

    def put(self, tokens, number):
        rest = tokens[:, 1:] if number == 0 else tokens[:, 1 + self.length :]
        return torch.cat([tokens[:, :1], self.prompts[number].expand(len(tokens), -1, -1), rest], dim=1)


class Context(nn.Module):
    """CoOp: learned vectors in the place of the first 16 words of each prompt."""

    def __init__(self, embedding, width, length=16):
        super().__init__()
        self.length = length
        self.vectors = nn.Parameter(0.02 * torch.randn(length, width))
        embedding.register_forward_hook(self.put)

    def put(self, module, given, words):
        context = self.vectors.expand(len(words), -1, -1)
        return torch.cat([words[:, :1], context, words[:, 1 + self.length :]], dim=1)


def low_rank(model, dora=False):
    """LoRA or DoRA on queries and values."""
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], use_dora=dora))


class ImageTower(nn.Module):
    """DINOv2 on each frame: CLS and mean patch token."""

    def __init__(self, folder, method):
        super().__init__()
        self.model = AutoModel.from_pretrained(folder).requires_grad_(False).eval()
        self.width, self.prompts, self.frozen = self.model.config.hidden_size, None, method == "frozen"
        layers = self.model.encoder.layer
        if method in ("lora", "dora"):
            self.model = low_rank(self.model, dora=method == "dora")
        elif method == "vpt-deep":
            self.prompts = DeepPrompts(layers, self.width)
        elif method == "adapter":
            for layer in layers:
                layer.mlp = ParallelAdapter(layer.mlp, self.width)
        elif method != "frozen":
            raise SystemExit(f"no image method {method}")

    def forward(self, video):
        with torch.no_grad() if self.frozen else nullcontext():
            tokens = self.model(pixel_values=video.flatten(0, 1)).last_hidden_state
        patches = tokens[:, 1 + (self.prompts.length if self.prompts else 0) :]
        return torch.cat([tokens[:, 0], patches.mean(dim=1)], dim=-1).unflatten(0, video.shape[:2])


class TextTower(nn.Module):
    """CLIP's text encoder on one prompt a class."""

    def __init__(self, folder, method, names, device):
        super().__init__()
        self.model = CLIPTextModelWithProjection.from_pretrained(folder).requires_grad_(False).eval()
        self.width, self.frozen = self.model.config.projection_dim, method == "frozen"
        template = TEMPLATE
        if method == "lora":
            self.model = low_rank(self.model)
        elif method == "coop":
            config = self.model.config
            self.context = Context(self.model.text_model.embeddings.token_embedding, config.hidden_size)
            template = " ".join(["a"] * self.context.length) + " {}."
        elif method == "adapter":
            for layer in self.model.text_model.encoder.layers:
                layer.mlp = SerialAdapter(layer.mlp, self.model.config.hidden_size)
        elif method != "frozen":
            raise SystemExit(f"no text method {method}")
        words = AutoTokenizer.from_pretrained(folder)(
            [template.format(name) for name in names], padding="max_length", max_length=77, return_tensors="pt"
        )
        self.ids, self.mask = words["input_ids"].to(device), words["attention_mask"].to(device)

    def forward(self):
        with torch.no_grad() if self.frozen else nullcontext():
            embedded = self.model(input_ids=self.ids, attention_mask=self.mask).text_embeds
        return functional.normalize(embedded, dim=-1)


class Recognizer(nn.Module):
    """Both towers, and a transformer over [video], frames and classes whose first token names the class."""

    def __init__(self, image, text, *, frames, classes, width, layers=2, heads=4):
        super().__init__()
        self.image, self.text = image, text
        self.frame_projection = nn.Linear(2 * image.width, width)
        self.class_projection = nn.Linear(text.width, width)
        self.video_token = nn.Parameter(0.02 * torch.randn(width))
        self.time = nn.Parameter(0.5 * torch.randn(frames, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.fusion = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, video, classes=None):
        frames = self.frame_projection(self.image(video)) + self.time
        classes = self.class_projection(self.text() if classes is None else classes)
        start = self.video_token.expand(len(frames), 1, -1)
        tokens = torch.cat([start, frames, classes.expand(len(frames), -1, -1)], dim=1)
        return self.head(self.fusion(tokens)[:, 0])


# --- training and test -----------------------------------------------------------------------------------------------


def train(model, loader, args, now):
    """Returns the seconds of each step, loading its clips included."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=0.05)
    steps = args.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    seconds = []
    model.fusion.train()
    for _ in range(args.epochs):
        begun = now()
        for video, label in loader:
            logits = model(video.to(args.device))
            loss = functional.cross_entropy(logits, label.to(args.device), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            ended = now()
            seconds.append(ended - begun)
            begun = ended
            if len(seconds) == args.steps:
                return seconds
    return seconds


@torch.inference_mode()
def test(model, loader, args, now):
    """Returns the accuracy, and the seconds of each batch."""
    model.eval()
    classes, hits, seen, seconds, begun = model.text(), 0, 0, [], now()
    for video, label in loader:
        hits += int((model(video.to(args.device), classes).argmax(dim=-1).cpu() == label).sum())
        seen += len(label)
        ended = now()
        seconds.append(ended - begun)
        begun = ended
        if len(seconds) == args.test_batches:
            break
    return hits / seen, seconds


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--image-tower", "--text-tower", "--root", "--train", "--test", "--pair"):
        parser.add_argument(name, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="stop training after so many")
    parser.add_argument("--test-batches", type=int, help="stop testing after so many")
    return parser.parse_args()


def main():
    """Run one cell."""
    args = arguments()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    def now():  # of the processor; work on a GPU is only seen by the wall's clock
        if args.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter() - BEGUN

    imported = now()
    with open(args.train, newline="") as file:
        labels = sorted({row["label"] for row in csv.DictReader(file)})
    image, text = args.pair.split("+")
    names = [label.replace("_", " ").lower() for label in labels]
    model = Recognizer(
        ImageTower(args.image_tower, image),
        TextTower(args.text_tower, text, names, args.device),
        frames=args.frames,
        classes=len(labels),
        width=args.width,
    ).to(args.device)
    train_loader = DataLoader(Clips(args, args.train, labels, True), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Clips(args, args.test, labels, False), batch_size=args.batch_size)
    loaded = now()
    steps = train(model, train_loader, args, now)
    accuracy, batches = test(model, test_loader, args, now)
    per_epoch = len(train_loader)
    print(
        json.dumps(
            {
                "accuracy": accuracy,
                "import_seconds": imported,
                "load_seconds": loaded - imported,
                "step_seconds": steps,
                "epoch_seconds": [
                    sum(steps[at : at + per_epoch]) for at in range(0, len(steps), per_epoch) if not args.steps
                ],
                "test_batch_seconds": batches,
            }
        )
    )


if __name__ == "__main__":
    main()
