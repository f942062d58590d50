"""What the report consists of: one entry a section, in the order of the page."""

from __future__ import annotations

from braindistill.report.parts import Section
from braindistill.report.sections import (
    differences,
    measures,
    methods,
    provenance,
    rois,
    subjects,
    teachers,
    training,
    verdicts,
)

SECTIONS = [
    Section("Warnings", boxes=verdicts.warning_boxes),
    Section(
        "Did the brain help?",
        "The claim is an intersection–union test: the brain arm must beat each control that the protocol names for this "
        "design. Being above the baseline alone is not called help.",
        boxes=verdicts.claim_boxes,
        table=verdicts.claim_tables,
    ),
    Section(
        "Arms",
        "Intervals are over seeds and test images, and subjects where there are several. Arms are paired by seed, so the "
        "differences below are sharper than "
        "the overlap of these intervals suggests. Teacher accuracy is a diagnostic: it is read with labels that no arm "
        "was trained on.",
        figure=verdicts.arm_figures,
        table=verdicts.arm_tables,
        lines=verdicts.arm_lines,
    ),
    Section(
        "What each arm rules out",
        "A control that scores as well as the brain explains the brain's effect away.",
        table=verdicts.purpose_tables,
    ),
    Section("Tuning", "Every arm had the same budget on the same validation images.", table=verdicts.tuning_tables),
    Section(
        "Differences",
        "Paired by seed and test image. Holm's p is for reading the table as a whole; sign flips of the seeds and the crossed "
        "bootstrap are checks beside the interval.",
        figure=differences.difference_figures,
        table=differences.difference_tables,
        lines=differences.difference_lines,
    ),
    Section(
        "Subjects",
        "Subjects are the replicates of a claim about people; seeds and test images are crossed with them. The claim in each "
        "subject alone is about that subject.",
        figure=subjects.subject_figures,
        table=subjects.subject_tables,
    ),
    Section(
        "Power and equivalence",
        "What this number of seeds could have shown, from the spread that was found, and which arms are as good as equal "
        "by TOST.",
        table=differences.power_tables,
        otherwise="how many seeds would decide, and which arms are equivalent",
        measure="power",
    ),
    Section(
        "In what respect",
        "Measures beside accuracy, of arms with a claim against the baseline and the claim's controls; paired. NLL and Brier "
        "score: intervals over seeds and test images; others: over seeds. Exploratory. ✓: better, ✗: worse, "
        "by Holm's p < 0.05 over all of these tables.",
        table=differences.respect_tables,
        otherwise="an arm with a claim and eval.measures",
    ),
    Section(
        "Few-shot curves",
        "What the teacher is worth against the number of labels.",
        figure=differences.curve_figures,
        table=differences.curve_tables,
        otherwise="eval.n_train=[10,20,50] trains the arms with several numbers of labels",
        measure="curves",
    ),
    Section(
        "Regions of the brain",
        "Which ROI carries the help: each alone, and the brain without it.",
        figure=rois.roi_figures,
        table=rois.roi_tables,
        otherwise="eval.rois=[each] adds an arm an ROI, and one without it",
        measure="rois",
    ),
    Section(
        "Calibration",
        "Whether confidence can be trusted: NLL, Brier score and ECE are better the lower they are.",
        figure=measures.calibration_figures,
        table=measures.calibration_tables,
        otherwise="eval.measures=[calibration] draws reliability curves",
        measure="calibration",
    ),
    Section(
        "Precision at a chosen confidence",
        "Only answers above a threshold are accepted; it is chosen on validation images, never on the test set. AURC sums up "
        "all thresholds.",
        figure=measures.selective_figures,
        table=measures.selective_tables,
        otherwise="eval.measures=[selective], with images.n_val > 0",
        measure="selective",
    ),
    Section(
        "Severity of errors",
        "Not all mistakes are alike: a dog called a cat is milder than a dog called a lorry.",
        figure=measures.severity_figures,
        table=measures.severity_tables,
        otherwise="eval.measures=[severity], with eval.hierarchy=FILE where the classes have no built-in one",
        measure="severity",
    ),
    Section(
        "Robustness",
        "Corruptions are the same for all students. Attacks are made against each student itself: FGSM and PGD.",
        figure=measures.robustness_figures,
        table=measures.robustness_tables,
        otherwise="eval.measures=[robustness,attacks]",
        measure="robustness",
    ),
    Section(
        "Brain score of the students",
        "Whether a student that learned from the brain has become more like it: prediction of held-out responses, and RSA.",
        figure=rois.brain_score_figures,
        table=rois.brain_score_tables,
        otherwise="eval.measures=[brain_score]",
        measure="brain_score",
    ),
    Section(
        "Dissimilarity matrices",
        "Which pictures the brain takes for alike, and which the students: the same pictures in the same order.",
        figure=rois.rdm_figures,
        otherwise="eval.measures=[brain_score] draws them, of ROIs and of students",
        measure="brain_score",
    ),
    Section(
        "Agreement with people",
        "Against the distributions of labels that people gave.",
        figure=measures.human_figures,
        table=measures.human_tables,
        otherwise="eval.measures=[human], with eval.people=FILE",
        measure="human",
    ),
    Section(
        "Contributions of regions to soft labels",
        "What each ROI adds to the teacher's answer, out of fold: Shapley values need no linearity, gradient × input is their "
        "first-order estimate. Grad-CAM shows where along its voxels the decoder looks.",
        figure=rois.explain_figures,
        table=rois.contribution_tables,
        otherwise="eval.explain=true",
        measure="explain: contributions",
    ),
    Section(
        "Where the students look",
        "Grad-CAM of students side by side.",
        figure=training.saliency_figures,
        otherwise="eval.explain=true",
        measure="explain: saliency",
    ),
    Section(
        "Training",
        "Means over seeds.",
        figure=training.training_figures,
        table=training.training_tables,
        otherwise="training curves are in distill/KEY/metrics.jsonl",
        measure="training",
    ),
    Section(
        "Teachers and encoding scores",
        "Scores of decoder, encoder and both composed are out of fold (the scheme says how), of the first seed's teacher. "
        "Correlations are raw: not divided by the noise ceiling, unless the column says so.",
        figure=training.encoding_figures,
        table=teachers.teacher_tables,
    ),
    Section(
        "Methods",
        "Put together from what was run, ready to paste.",
        passages=methods.method_passages,
    ),
    Section(
        "Steps",
        "Every artifact is kept and reused until something that it depends on changes.",
        figure=provenance.step_figures,
        table=provenance.step_tables,
        otherwise="steps are known where the report is made inside the cache that holds the evaluation",
    ),
    Section(
        "Provenance",
        "The command, every arm's overrides, versions, and the keys of the cached artifacts.",
        table=provenance.provenance_tables,
    ),
]
