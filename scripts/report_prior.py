"""How well a prior denoises photographs it has not seen, beside classical denoisers, and what it draws from noise.

One step: of a photograph diffused to a time-step, the U-Net tells the noise, and what is left is compared with the
photograph (mean PSNR in dB). The classical denoisers are told the standard deviation of the noise; their
strength is the best of five for every time-step, chosen on the same photographs, in their favour. The samples
are drawn with DDIM at eta 1 (Song 2021), which adds noise at every step as DDPM does; without it (eta 0) they are a
tangle of colours.

python scripts/report_prior.py PRIOR UP_PATH --photos FOLDER --samples FILE.png [--count 16] [--steps 250] [--threads 2]
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from PIL import Image
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle
from torch import Tensor

from difflid.data.photos import load_squares, photo_files, split_photos
from difflid.metrics import psnr
from difflid.prior import add_noise, alpha_bars, fixed_noise
from difflid.training.prior import VALIDATION_TIMESTEPS, load_whole_unet

Denoiser = Callable[[NDArray[np.float64], float], NDArray[np.float64]]
STRENGTHS = 0.4, 0.6, 0.8, 1.0, 1.2  # of the classical denoisers, in standard deviations of the noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", type=Path)
    parser.add_argument("up_path", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    unet: Any = load_whole_unet(arguments.prior, arguments.up_path).eval()
    size = unet.config.sample_size
    photos = load_squares(split_photos(photo_files(arguments.photos))[1], size).float() / 127.5 - 1
    print(f"{len(photos)} held-out photographs of {size} x {size}")
    print("| time-step | noisy | total variation | non-local means | the prior |\n|---|---|---|---|---|")
    for step in VALIDATION_TIMESTEPS:
        print(f"| {step} | " + " | ".join(f"{value:.1f}" for value in denoised(unet, photos, step)) + " |", flush=True)
    save_grid(sample(unet, arguments.count, arguments.steps), arguments.samples)


@torch.inference_mode()
def denoised(unet: Any, photos: Tensor, step: int) -> list[float]:
    alpha_bar = alpha_bars()[step].float()
    noisy = add_noise(photos, fixed_noise(1, step, tuple(photos.shape)), alpha_bar)
    noise = torch.cat([unet(part, torch.full((len(part),), step)).sample for part in noisy.split(32)])
    seen, sigma = noisy / alpha_bar.sqrt(), float(((1 - alpha_bar) / alpha_bar).sqrt())
    ours = seen - sigma * noise
    others = [
        max(score(classical(seen, sigma, denoiser(strength)), photos) for strength in STRENGTHS)
        for denoiser in (total_variation, non_local_means)
    ]
    return [score(seen, photos), *others, score(ours, photos)]


def score(pictures: Tensor, photos: Tensor) -> float:
    return psnr(pictures.clamp(-1, 1), photos, data_range=2.0).mean().item()


def classical(seen: Tensor, sigma: float, denoise: Denoiser) -> Tensor:
    pictures = seen.permute(0, 2, 3, 1).double().numpy()
    return torch.from_numpy(np.stack([denoise(picture, sigma) for picture in pictures])).permute(0, 3, 1, 2).float()


def non_local_means(strength: float) -> Denoiser:
    def denoise(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        return denoise_nl_means(
            picture, h=strength * sigma, sigma=sigma, patch_size=3, patch_distance=10, fast_mode=True, channel_axis=-1
        )

    return denoise


def total_variation(strength: float) -> Denoiser:
    def denoise(picture: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
        return denoise_tv_chambolle(picture, weight=strength * sigma, channel_axis=-1)

    return denoise


@torch.inference_mode()
def sample(unet: Any, count: int, steps: int) -> Tensor:
    scheduler = DDIMScheduler(num_train_timesteps=1000, clip_sample=True, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    size, noise = unet.config.sample_size, torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, size, size, generator=noise)
    for step in scheduler.timesteps:
        x = scheduler.step(unet(x, step).sample, step, x, eta=1.0, generator=noise).prev_sample
    return (x.clamp(-1, 1) + 1) / 2


def save_grid(pictures: Tensor, path: Path) -> None:
    columns = round(len(pictures) ** 0.5 * 1.5)
    rows = [torch.cat(list(row), dim=2) for row in pictures.split(columns) if len(row) == columns]
    pixels = (torch.cat(rows, dim=1).permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).resize((2 * pixels.shape[1], 2 * pixels.shape[0]), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
