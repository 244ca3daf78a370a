// The two views: over the picture, from the very camera, and a space that can be turned.
//
// What is in the camera frame (x right, y down, z forward) hangs in a group that is turned to the axes of three.js
// (y up, z towards the camera), with the camera in the origin of both.

import * as THREE from 'three';

const IN_SPACE = 1; // layer of what the space shows and the picture does not
const FIELD_OF_VIEW = 40; // degrees, of the space
const PALE = 0.45; // opacity of somebody whom nobody saw in this frame
const THROUGH = 0.4; // opacity of a mesh in which joints shall be seen
const JOINT_M = 0.022;
const BONE_M = 0.011;
const IN_CAMERA_M = 0.3; // of the camera's place: there one looks through it
const NEAR_M = 0.2; // what is nearer is left out, as of overlays
const NEAR_IN_SPACE_M = 0.05;
const FAR_M = 1000;
const TURN = Math.PI / 36; // of an arrow key
const GLIDE_MS = 350;
const OUTLIER_M = 2; // from the middle, beside twice the median
const ROOM_M = 1.1; // around a person's pelvis, when everybody shall be seen

// Mesh and joints of a person.
class Figure {
  constructor(person, body, camera) {
    Object.assign(this, { person, body, camera });
    const geometry = new THREE.BufferGeometry();
    for (const name of ['position', 'normal']) {
      geometry.setAttribute(name, new THREE.BufferAttribute(new Float32Array(body.vertexCount * 3), 3));
    }
    geometry.setIndex(new THREE.BufferAttribute(body.faces, 1));
    const { colour } = person;
    this.mesh = new THREE.Mesh(
      geometry,
      new THREE.MeshStandardMaterial({ color: colour, roughness: 0.75, transparent: true }),
    );
    const material = new THREE.MeshStandardMaterial({ color: colour, roughness: 0.6 });
    this.joints = new THREE.InstancedMesh(new THREE.SphereGeometry(JOINT_M, 12, 8), material, body.parents.length);
    this.bones = new THREE.InstancedMesh(
      new THREE.CylinderGeometry(BONE_M, BONE_M, 1, 8),
      material,
      body.parents.length - 1,
    );
    for (const part of [this.joints, this.bones]) part.layers.set(IN_SPACE);
    for (const part of [this.mesh, this.joints, this.bones]) part.frustumCulled = false;
  }

  // Shows what `Track.at` returned.
  pose(posed) {
    if (this.posed === posed) return;
    this.posed = posed;
    const { position, normal } = this.mesh.geometry.attributes;
    position.array.set(posed.vertices);
    normal.array.set(this.body.normals(posed.vertices));
    position.needsUpdate = normal.needsUpdate = true;
    const places = this.body.parents.map(
      (_, joint) => new THREE.Vector3(...posed.joints.subarray(joint * 3, joint * 3 + 3)),
    );
    const matrix = new THREE.Matrix4();
    const up = new THREE.Vector3(0, 1, 0);
    places.forEach((place, joint) => {
      this.joints.setMatrixAt(joint, matrix.makeTranslation(place));
      const parent = this.body.parents[joint];
      if (parent < 0) return;
      const bone = place.clone().sub(places[parent]);
      const turn = new THREE.Quaternion().setFromUnitVectors(up, bone.clone().normalize());
      const scale = new THREE.Vector3(1, bone.length(), 1);
      this.bones.setMatrixAt(joint - 1, matrix.compose(place.clone().add(places[parent]).divideScalar(2), turn, scale));
    });
    this.joints.instanceMatrix.needsUpdate = this.bones.instanceMatrix.needsUpdate = true;
  }

  dispose() {
    for (const part of [this.mesh, this.joints, this.bones]) {
      part.geometry.dispose();
      part.material.dispose();
    }
  }
}

export class Views {
  // picture, marks, drawn, space: canvases: the photo; lines over it; meshes over it; the space.
  constructor({ picture, marks, drawn, space }) {
    Object.assign(this, { picture, marks, drawn });
    this.scene = new THREE.Scene();
    this.world = new THREE.Group();
    this.world.rotation.x = Math.PI; // (x, y, z) -> (x, -y, -z)
    const key = new THREE.DirectionalLight('#ffffff', 1.9);
    key.position.set(-3, 5, 5);
    const back = new THREE.DirectionalLight('#ffffff', 0.7);
    back.position.set(4, 2, -5);
    this.scene.add(this.world, new THREE.HemisphereLight('#ffffff', '#8a8378', 1.7), key, back);

    const options = { antialias: true, alpha: true };
    this.overPicture = new THREE.WebGLRenderer({ canvas: drawn, ...options });
    this.overPicture.autoClear = false;
    this.overPicture.setClearColor(0, 0); // transparent from the first clear() on, not from the first render()
    this.overSpace = new THREE.WebGLRenderer({ canvas: space, ...options });
    this.pictureCamera = new THREE.PerspectiveCamera();
    this.pictureCamera.matrixAutoUpdate = false;
    this.camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, NEAR_IN_SPACE_M, FAR_M);
    this.camera.layers.enable(IN_SPACE);
    this.controls = new THREE.OrbitControls(this.camera, space);
    this.controls.addEventListener('change', () => this.redraw());
    this.controls.addEventListener('start', () => this.stop());
    this.frustum = new THREE.Group();
    this.world.add(this.frustum);
    this.figures = [];
    this.shown = { mesh: true, joints: false, boxes: false };
  }

  // Shows another photo or video.
  setScene(scene, body) {
    for (const figure of this.figures) {
      this.world.remove(figure.mesh, figure.joints, figure.bones);
      figure.dispose();
    }
    this.sceneShown = scene;
    [this.picture.width, this.picture.height] = scene.picture_size;
    this.context = this.picture.getContext('2d');
    this.figures = scene.people.map((person) => new Figure(person, body, scene.cameras[person.camera]));
    for (const figure of this.figures) this.world.add(figure.mesh, figure.joints, figure.bones);
    this.floor = scene.people.length ? Math.max(...scene.people.map(lowest)) : 1;
    this.setFrustum();
    this.setGrid();
  }

  // The camera as a pyramid with the picture in it.
  setFrustum() {
    const { cameras, size } = this.sceneShown;
    this.texture?.dispose();
    for (const part of this.frustum.children) part.geometry.dispose();
    this.frustum.clear();
    this.outline = null;
    const camera = cameras[0];
    if (!camera) return;
    const depth = Math.min(1, 0.3 * this.middle().z);
    const corner = (u, v) => [
      ((u - camera.centre[0]) / camera.focal[0]) * depth,
      ((v - camera.centre[1]) / camera.focal[1]) * depth,
      depth,
    ];
    const [right, bottom] = [size[0] - 0.5, size[1] - 0.5]; // the first pixel begins at -0.5
    const corners = [corner(-0.5, -0.5), corner(right, -0.5), corner(right, bottom), corner(-0.5, bottom)];
    const lines = corners.flatMap((one, k) => [[0, 0, 0], one, one, corners[(k + 1) % 4]]).flat();
    const outline = new THREE.BufferGeometry();
    outline.setAttribute('position', new THREE.BufferAttribute(Float32Array.from(lines), 3));
    const plane = new THREE.BufferGeometry();
    plane.setAttribute('position', new THREE.BufferAttribute(Float32Array.from(corners.flat()), 3));
    plane.setAttribute('uv', new THREE.BufferAttribute(Float32Array.from([0, 1, 1, 1, 1, 0, 0, 0]), 2));
    plane.setIndex([0, 1, 2, 0, 2, 3]);
    this.texture = new THREE.CanvasTexture(this.picture);
    this.texture.colorSpace = THREE.SRGBColorSpace;
    const material = new THREE.MeshBasicMaterial({ map: this.texture, side: THREE.DoubleSide });
    this.outline = new THREE.LineSegments(outline, new THREE.LineBasicMaterial());
    this.frustum.add(this.outline, new THREE.Mesh(plane, material));
    for (const part of this.frustum.children) part.layers.set(IN_SPACE);
  }

  // A grid of metres under people's feet, in the colours of the page.
  setGrid() {
    if (this.grid) this.scene.remove(this.grid);
    this.grid?.geometry.dispose();
    const { z } = this.middle();
    const size = 2 * Math.ceil(Math.max(4, 1.5 * z) / 2);
    const colour = resolved('--grid');
    this.grid = new THREE.GridHelper(size, size, colour, colour);
    this.grid.position.set(0, -this.floor, -Math.round(z));
    this.grid.layers.set(IN_SPACE);
    this.scene.add(this.grid);
    this.outline?.material.color.set(resolved('--soft'));
    this.redraw();
  }

  // Returns the middle of those who are there, camera frame, metres, and how far around it they are, but for
  // outliers; where nobody is, of all as they are first seen.
  middle() {
    const here = this.figures.filter((figure) => figure.present).map(({ posed }) => posed.joints);
    const roots = here.length ? here : this.sceneShown.people.map((person) => person.translation_m);
    if (!roots.length) return { x: 0, y: 0, z: 4, wide: 1 };
    const [x, y, z] = [0, 1, 2].map((axis) => median(roots.map((root) => root[axis])));
    const far = roots.map((root) => Math.hypot(root[0] - x, root[1] - y, root[2] - z));
    const most = OUTLIER_M + 2 * median(far);
    return { x, y, z, wide: Math.max(...far.filter((one) => one <= most)) };
  }

  // Shows a frame; people whose numbers are in `hidden` are left out.
  setFrame(frame, hidden) {
    this.frame = frame;
    for (const figure of this.figures) {
      const posed = hidden.has(figure.person.number) ? null : figure.person.at(frame);
      if (posed) figure.pose(posed);
      figure.present = Boolean(posed);
    }
    this.redraw();
  }

  // Draws a decoded picture, null where there is none.
  setPicture(image) {
    const { width, height } = this.picture;
    this.context.clearRect(0, 0, width, height);
    if (image) this.context.drawImage(image, 0, 0, width, height);
    if (this.texture) this.texture.needsUpdate = true;
    this.redraw();
  }

  // ---- where the space is looked at from

  // Looks from 'front', 'side', 'top', 'camera' or 'three-quarters' at everybody.
  look(from, { glide = true } = {}) {
    const { x, y, z, wide } = this.middle();
    const target = new THREE.Vector3(x, -y, -z);
    const sine = Math.sin((FIELD_OF_VIEW / 2) * (Math.PI / 180));
    const away = ((ROOM_M + wide) / sine) * Math.max(1, 1 / this.camera.aspect);
    const directions = { front: [0, 0, 1], side: [1, 0, 0], top: [0, 1, 1e-3], 'three-quarters': [0.75, 0.4, 1] };
    let place = new THREE.Vector3(...(directions[from] ?? [0, 0, 0])).normalize().multiplyScalar(away).add(target);
    let angle = FIELD_OF_VIEW;
    if (from === 'camera') {
      place = new THREE.Vector3();
      target.set(0, 0, -z);
      const { focal, size } = this.lens();
      const tall = Math.max(size[1] / focal[1], size[0] / focal[0] / this.camera.aspect);
      angle = (2 * Math.atan(tall / 2) * 180) / Math.PI;
    }
    this.glide({ place, target, angle }, glide);
  }

  // Returns focal lengths and size of the picture, pixels, of the first camera; of none the usual guess.
  lens() {
    const { cameras, size } = this.sceneShown;
    return { ...(cameras[0] ?? { focal: [Math.hypot(...size), Math.hypot(...size)] }), size };
  }

  // Turns around a person, from where the space is looked at now.
  centre(person) {
    const posed = person.at(this.frame) ?? person.at(person.frames[0]);
    const [x, y, z] = posed.joints;
    const target = new THREE.Vector3(x, -y, -z);
    const direction = this.camera.position.clone().sub(this.controls.target).normalize();
    this.glide({ place: target.clone().addScaledVector(direction, 4), target, angle: FIELD_OF_VIEW }, true);
  }

  // Turns or moves closer by a key; false for one that does neither.
  key(name) {
    const offset = this.camera.position.clone().sub(this.controls.target);
    const place = new THREE.Spherical().setFromVector3(offset);
    if (name === 'ArrowLeft') place.theta -= TURN;
    else if (name === 'ArrowRight') place.theta += TURN;
    else if (name === 'ArrowUp') place.phi -= TURN;
    else if (name === 'ArrowDown') place.phi += TURN;
    else if (name === '+' || name === '=') place.radius /= 1.15;
    else if (name === '-') place.radius *= 1.15;
    else return false;
    this.stop();
    this.camera.position.setFromSpherical(place.makeSafe()).add(this.controls.target);
    this.controls.update();
    this.redraw();
    return true;
  }

  // Brings the space's camera to a place, a target and a field of view in degrees.
  glide({ place, target, angle }, slowly) {
    const start = { place: this.camera.position.clone(), target: this.controls.target.clone(), angle: this.camera.fov };
    const still = !slowly || matchMedia('(prefers-reduced-motion: reduce)').matches;
    let began = null;
    this.gliding = (now) => {
      began ??= now;
      const t = still ? 1 : Math.min(1, (now - began) / GLIDE_MS);
      const share = t * t * (3 - 2 * t);
      this.camera.position.lerpVectors(start.place, place, share);
      this.controls.target.lerpVectors(start.target, target, share);
      this.camera.fov = start.angle + (angle - start.angle) * share;
      this.camera.updateProjectionMatrix();
      this.controls.update();
      if (t === 1) this.stop();
    };
    if (still) this.gliding(0);
    this.redraw();
  }

  // Leaves the space's camera where it is.
  stop() {
    this.gliding = null;
  }

  // ---- drawing

  // Draws before the browser shows its next frame.
  redraw() {
    this.waiting ??= requestAnimationFrame((now) => {
      this.waiting = null;
      this.gliding?.(now);
      this.draw();
      if (this.gliding) this.redraw();
    });
  }

  // Makes the canvases as large as they are shown.
  resize() {
    const ratio = Math.min(2, devicePixelRatio);
    for (const renderer of [this.overPicture, this.overSpace]) {
      const { clientWidth, clientHeight } = renderer.domElement;
      renderer.setPixelRatio(ratio);
      renderer.setSize(Math.max(1, clientWidth), Math.max(1, clientHeight), false);
    }
    this.marks.width = Math.round(this.marks.clientWidth * ratio);
    this.marks.height = Math.round(this.marks.clientHeight * ratio);
    const { clientWidth, clientHeight } = this.overSpace.domElement;
    this.camera.aspect = Math.max(1, clientWidth) / Math.max(1, clientHeight);
    this.camera.updateProjectionMatrix();
    this.redraw();
  }

  // Draws both views as they are now.
  draw() {
    this.drawOverPicture(this.shown.mesh);
    drawMarks(this.marks, this.sceneShown, this.figures, this.shown);
    for (const figure of this.figures) {
      figure.mesh.visible = figure.present && this.shown.mesh;
      figure.joints.visible = figure.bones.visible = figure.present && this.shown.joints;
      figure.mesh.material.opacity = (figure.posed?.filled ? PALE : 1) * (this.shown.joints ? THROUGH : 1);
    }
    this.frustum.visible = this.camera.position.length() > IN_CAMERA_M; // its picture would hide everything
    this.overSpace.render(this.scene, this.camera);
  }

  // Draws the meshes from the camera that each was seen by, whose principal point may be anywhere.
  drawOverPicture(withMesh) {
    this.overPicture.clear();
    const [width, height] = this.sceneShown.size;
    for (const camera of this.sceneShown.cameras) {
      let any = false;
      for (const figure of this.figures) {
        figure.mesh.visible = withMesh && figure.present && figure.camera === camera;
        any ||= figure.mesh.visible;
        figure.mesh.material.opacity = figure.posed?.filled ? PALE : 1;
      }
      if (!any) continue;
      const scale = camera.focal.map((focal) => NEAR_M / focal);
      const [left, top] = [-(camera.centre[0] + 0.5) * scale[0], (camera.centre[1] + 0.5) * scale[1]];
      const [right, bottom] = [left + width * scale[0], top - height * scale[1]];
      this.pictureCamera.projectionMatrix.makePerspective(left, right, top, bottom, NEAR_M, FAR_M);
      this.pictureCamera.projectionMatrixInverse.copy(this.pictureCamera.projectionMatrix).invert();
      this.overPicture.clearDepth();
      this.overPicture.render(this.scene, this.pictureCamera);
    }
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

// Returns y, which points down, of somebody's lowest vertex where he or she is first seen.
function lowest(person) {
  const { vertices } = person.at(person.frames[0]);
  let y = -Infinity;
  for (let i = 1; i < vertices.length; i += 3) y = Math.max(y, vertices[i]);
  return y;
}

// Returns a colour of the style sheet, which may be light-dark(...), as three.js reads it.
function resolved(name) {
  const probe = document.body.appendChild(document.createElement('i'));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// Draws joints, boxes and names over the picture.
function drawMarks(canvas, scene, figures, shown) {
  const context = canvas.getContext('2d');
  context.clearRect(0, 0, canvas.width, canvas.height);
  const scale = canvas.width / scene.size[0];
  const line = Math.max(1.5, canvas.width / 400);
  for (const figure of figures.filter(({ present }) => present)) {
    const { person, posed, camera, body } = figure;
    const place = (points, i) =>
      [0, 1].map((k) => ((camera.focal[k] * points[i + k]) / points[i + 2] + camera.centre[k] + 0.5) * scale);
    context.globalAlpha = posed.filled ? PALE : 1;
    if (shown.joints) {
      context.strokeStyle = context.fillStyle = shown.mesh ? '#fff' : person.colour;
      const joints = body.parents.map((_, joint) => place(posed.joints, joint * 3));
      const bones = new Path2D();
      const dots = new Path2D();
      joints.forEach(([x, y], joint) => {
        dots.moveTo(x + 1.6 * line, y);
        dots.arc(x, y, 1.6 * line, 0, 2 * Math.PI);
        if (body.parents[joint] < 0) return;
        bones.moveTo(...joints[body.parents[joint]]);
        bones.lineTo(x, y);
      });
      outlined(context, bones, line);
      context.fill(dots);
    }
    if (shown.boxes) {
      context.strokeStyle = context.fillStyle = person.colour;
      const box = person.box?.map((value) => value * scale) ?? around(posed.vertices, place);
      const path = new Path2D();
      path.rect(...box);
      context.setLineDash(posed.filled ? [4 * line, 3 * line] : []);
      outlined(context, path, line);
      context.setLineDash([]);
      context.font = `600 ${Math.max(11, 6 * line)}px system-ui, sans-serif`;
      const width = context.measureText(person.name).width + 4 * line;
      const top = Math.max(0, box[1] - 9 * line);
      context.fillRect(box[0], top, width, 9 * line);
      context.fillStyle = '#111';
      context.fillText(person.name, box[0] + 2 * line, top + 6.7 * line);
    }
  }
  context.globalAlpha = 1;
}

// Strokes a path in the colour of the context, on a dark edge that sets it off from the picture.
function outlined(context, path, line) {
  const colour = context.strokeStyle;
  context.lineJoin = context.lineCap = 'round';
  for (const [style, width] of [
    ['rgb(0 0 0 / 55%)', 1.9 * line],
    [colour, line],
  ]) {
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke(path);
  }
}

// Returns x y width height of the box around vertices on the picture.
function around(vertices, place) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < vertices.length; i += 3) {
    if (vertices[i + 2] < NEAR_M) continue;
    const [x, y] = place(vertices, i);
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  }
  return [left, top, right - left, bottom - top];
}
