"""The publications behind what the tool does: how they are cited in a text, and their BibTeX entries."""

from __future__ import annotations

from collections.abc import Iterable

#: key → (as cited, kind, authors, title, where, year); where is the journal of an article, else the book or series
SOURCES: dict[str, tuple[str, str, str, str, str, int]] = {
    "allen2022": (
        "Allen et al., 2022",
        "article",
        "Allen, Emily J. and St-Yves, Ghislain and Wu, Yihan and others",
        "A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial intelligence",
        "Nature Neuroscience",
        2022,
    ),
    "berger1982": (
        "Berger, 1982",
        "article",
        "Berger, Roger L.",
        "Multiparameter hypothesis testing and acceptance sampling",
        "Technometrics",
        1982,
    ),
    "brier1950": (
        "Brier, 1950",
        "article",
        "Brier, Glenn W.",
        "Verification of forecasts expressed in terms of probability",
        "Monthly Weather Review",
        1950,
    ),
    "chang2019": (
        "Chang et al., 2019",
        "article",
        "Chang, Nadine and Pyles, John A. and Marcus, Austin and Gupta, Abhinav and Tarr, Michael J. and Aminoff, Elissa M.",
        "BOLD5000, a public fMRI dataset while viewing 5000 visual images",
        "Scientific Data",
        2019,
    ),
    "gifford2023": (
        "Gifford et al., 2023",
        "misc",
        "Gifford, Alessandro T. and Lahner, Benjamin and Saba-Sadiya, Sari and others",
        "The Algonauts Project 2023 Challenge: How the human brain makes sense of natural scenes",
        "arXiv:2301.03198",
        2023,
    ),
    "goodfellow2015": (
        "Goodfellow et al., 2015",
        "inproceedings",
        "Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian",
        "Explaining and harnessing adversarial examples",
        "International Conference on Learning Representations",
        2015,
    ),
    "guo2017": (
        "Guo et al., 2017",
        "inproceedings",
        "Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.",
        "On calibration of modern neural networks",
        "International Conference on Machine Learning",
        2017,
    ),
    "he2016": (
        "He et al., 2016",
        "inproceedings",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian",
        "Deep residual learning for image recognition",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        2016,
    ),
    "hebart2023": (
        "Hebart et al., 2023",
        "article",
        "Hebart, Martin N. and Contier, Oliver and Teichmann, Lina and others",
        "THINGS-data, a multimodal collection of large-scale datasets for investigating object representations in human "
        "brain and behavior",
        "eLife",
        2023,
    ),
    "hendrycks2019": (
        "Hendrycks and Dietterich, 2019",
        "inproceedings",
        "Hendrycks, Dan and Dietterich, Thomas",
        "Benchmarking neural network robustness to common corruptions and perturbations",
        "International Conference on Learning Representations",
        2019,
    ),
    "hinton2015": (
        "Hinton et al., 2015",
        "misc",
        "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
        "Distilling the knowledge in a neural network",
        "arXiv:1503.02531",
        2015,
    ),
    "holm1979": (
        "Holm, 1979",
        "article",
        "Holm, Sture",
        "A simple sequentially rejective multiple test procedure",
        "Scandinavian Journal of Statistics",
        1979,
    ),
    "horikawa2017": (
        "Horikawa and Kamitani, 2017",
        "article",
        "Horikawa, Tomoyasu and Kamitani, Yukiyasu",
        "Generic decoding of seen and imagined objects using hierarchical visual features",
        "Nature Communications",
        2017,
    ),
    "kriegeskorte2008": (
        "Kriegeskorte et al., 2008",
        "article",
        "Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter",
        "Representational similarity analysis -- connecting the branches of systems neuroscience",
        "Frontiers in Systems Neuroscience",
        2008,
    ),
    "krizhevsky2009": (
        "Krizhevsky, 2009",
        "techreport",
        "Krizhevsky, Alex",
        "Learning multiple layers of features from tiny images",
        "University of Toronto",
        2009,
    ),
    "lecun1998": (
        "LeCun et al., 1998",
        "article",
        "LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick",
        "Gradient-based learning applied to document recognition",
        "Proceedings of the IEEE",
        1998,
    ),
    "ledoit2004": (
        "Ledoit and Wolf, 2004",
        "article",
        "Ledoit, Olivier and Wolf, Michael",
        "A well-conditioned estimator for large-dimensional covariance matrices",
        "Journal of Multivariate Analysis",
        2004,
    ),
    "loshchilov2019": (
        "Loshchilov and Hutter, 2019",
        "inproceedings",
        "Loshchilov, Ilya and Hutter, Frank",
        "Decoupled weight decay regularization",
        "International Conference on Learning Representations",
        2019,
    ),
    "madry2018": (
        "Madry et al., 2018",
        "inproceedings",
        "Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian",
        "Towards deep learning models resistant to adversarial attacks",
        "International Conference on Learning Representations",
        2018,
    ),
    "schuirmann1987": (
        "Schuirmann, 1987",
        "article",
        "Schuirmann, Donald J.",
        "A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence of average "
        "bioavailability",
        "Journal of Pharmacokinetics and Biopharmaceutics",
        1987,
    ),
    "satterthwaite1946": (
        "Satterthwaite, 1946",
        "article",
        "Satterthwaite, Franklin E.",
        "An approximate distribution of estimates of variance components",
        "Biometrics Bulletin",
        1946,
    ),
    "selvaraju2017": (
        "Selvaraju et al., 2017",
        "inproceedings",
        "Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and Parikh, Devi and "
        "Batra, Dhruv",
        "Grad-CAM: Visual explanations from deep networks via gradient-based localization",
        "IEEE International Conference on Computer Vision",
        2017,
    ),
    "shapley1953": (
        "Shapley, 1953",
        "incollection",
        "Shapley, Lloyd S.",
        "A value for n-person games",
        "Contributions to the Theory of Games II",
        1953,
    ),
    "szegedy2016": (
        "Szegedy et al., 2016",
        "inproceedings",
        "Szegedy, Christian and Vanhoucke, Vincent and Ioffe, Sergey and Shlens, Jon and Wojna, Zbigniew",
        "Rethinking the Inception architecture for computer vision",
        "IEEE Conference on Computer Vision and Pattern Recognition",
        2016,
    ),
    "tian2020": (
        "Tian et al., 2020",
        "inproceedings",
        "Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
        "Contrastive representation distillation",
        "International Conference on Learning Representations",
        2020,
    ),
    "vangerven2010": (
        "van Gerven et al., 2010",
        "article",
        "van Gerven, Marcel A. J. and de Lange, Floris P. and Heskes, Tom",
        "Neural decoding with hierarchical generative models",
        "Neural Computation",
        2010,
    ),
    "yuan2020": (
        "Yuan et al., 2020",
        "inproceedings",
        "Yuan, Li and Tay, Francis E. H. and Li, Guilin and Wang, Tao and Feng, Jiashi",
        "Revisiting knowledge distillation via label smoothing regularization",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2020,
    ),
    "zhao2022": (
        "Zhao et al., 2022",
        "inproceedings",
        "Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun",
        "Decoupled knowledge distillation",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2022,
    ),
    "huang2022": (
        "Huang et al., 2022",
        "inproceedings",
        "Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang",
        "Knowledge distillation from a stronger teacher",
        "Advances in Neural Information Processing Systems",
        2022,
    ),
    "sun2024": (
        "Sun et al., 2024",
        "inproceedings",
        "Sun, Shangquan and Ren, Wenqi and Li, Jingzhi and Wang, Rui and Cao, Xiaochun",
        "Logit standardization in knowledge distillation",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2024,
    ),
    "wei2022": (
        "Wei et al., 2022",
        "inproceedings",
        "Wei, Jiaheng and Zhu, Zhaowei and Cheng, Hao and Liu, Tongliang and Niu, Gang and Liu, Yang",
        "Learning with noisy labels revisited: A study using real-world human annotations",
        "International Conference on Learning Representations",
        2022,
    ),
}
_WHERE = {"article": "journal", "misc": "howpublished", "techreport": "institution"}


def bibtex_of(keys: Iterable[str]) -> str:
    """BibTeX entries, in alphabetical order; titles keep their capitals."""
    return "\n\n".join(_entry(key) for key in sorted(set(keys)))


def _entry(key: str) -> str:
    _, kind, authors, title, where, year = SOURCES[key]
    fields = {"author": authors, "title": f"{{{title}}}", _WHERE.get(kind, "booktitle"): where, "year": str(year)}
    return f"@{kind}{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items()) + "\n}"
